#!/usr/bin/env bash
# C1.3: do dependent facts take fewer parameters? Runs what is missing of the grid, draws the figures, judges.
#   compressibility.sh [scale=paper|scale=paper_8192] [key=value ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
cd "$repository"
exec "$python" -m apps.memory.local_grid apps/memory/config/compressibility.yaml "$@"
