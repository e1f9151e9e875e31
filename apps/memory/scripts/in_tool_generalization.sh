#!/usr/bin/env bash
# C1.2: from how many people on does a rule replace memory? Runs what is missing of the grid, draws the figures, judges.
#   in_tool_generalization.sh [scale=paper] [key=value ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source apps/memory/scripts/python.sh
exec "$python" -m apps.memory.local_grid apps/memory/config/ood_grid.yaml "$@"
