#!/usr/bin/env bash
# C1.3: do dependent facts take fewer parameters? Runs what is missing of the grid, draws the figures, judges.
#   compressibility.sh [scale=paper|scale=paper_8192] [key=value ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
source apps/memory/scripts/python.sh
exec "$python" -m apps.memory.local_grid apps/memory/config/compressibility.yaml "$@"
