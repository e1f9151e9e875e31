#!/usr/bin/env bash
# Writes people whose facts depend on their last names, for each strength alpha, and says how many bits there are to know;
# then, if wanted, an SQLite database for each alpha.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
read_arguments 8192 --seed "$@"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

alphas=(0 0.25 0.5 0.75 1)
for alpha in "${alphas[@]}"; do
    "$python" -m apps.memory.dataset.dependent "$alpha" "${options[@]}"
done
if wants_database; then
    for alpha in "${alphas[@]}"; do
        "$python" -m apps.memory.dataset.dependent "$alpha" "${options[@]}" --database
    done
fi
