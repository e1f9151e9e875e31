#!/usr/bin/env bash
# Writes people whose facts depend on their last names, for each strength alpha, and says how many bits there are to know.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
cd "$repository"

for argument in "$@"; do
    [[ "$argument" != -h && "$argument" != --help ]] ||
        fail "usage: generate_dependent_data.sh [--num N] [--root DIR] [--seed S]   (N people, at most 8192)"
done
for alpha in 0 0.25 0.5 0.75 1; do
    "$python" -m apps.memory.dataset.dependent "$alpha" "$@"
done
