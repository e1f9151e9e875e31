#!/usr/bin/env bash
# Writes people, biographies and dialogs of the first N people, then the SQLite database if wanted.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
read_arguments 169556 "" "$@"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

generate=("$python" -m apps.memory.dataset.generate)
"${generate[@]}" people "${options[@]}"
"${generate[@]}" biographies "${options[@]}"
"${generate[@]}" qa "${options[@]}"
"${generate[@]}" qa --tooluse "${options[@]}"

if wants_database; then
    "$python" -m apps.memory.dataset.sql_db create "${options[@]}"
fi
