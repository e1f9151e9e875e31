#!/usr/bin/env bash
# Writes people of new first and last names, whom no model has met: people and both kinds of dialogs of the first N.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
cd "$repository"

[[ $# -ge 1 && "$1" =~ ^[0-9]{1,9}$ ]] || fail "usage: generate_ood_data.sh N [--root DIR]   (N people, 1 to 169556)"
n_people="$1"
shift
generate=("$python" -m apps.memory.dataset.generate)
options=(--population new --num "$n_people" "$@")
"${generate[@]}" people "${options[@]}"
"${generate[@]}" qa "${options[@]}"
"${generate[@]}" qa --tooluse "${options[@]}"
