#!/usr/bin/env bash
# C1.2: from how many people on does a rule replace memory? Runs what is missing of the grid, draws the figures, judges.
#   in_tool_generalization.sh [scale=paper] [key=value ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
cd "$repository"
exec "$python" -m apps.memory.local_grid apps/memory/config/ood_grid.yaml "$@"
