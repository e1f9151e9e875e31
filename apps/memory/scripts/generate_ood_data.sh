#!/usr/bin/env bash
# Writes people of new first and last names, whom no model has met: people and both kinds of dialogs of the first N;
# then the SQLite database if wanted.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
read_arguments 169556 "" "$@"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

generate=("$python" -m apps.memory.dataset.generate)
"${generate[@]}" people --population new "${options[@]}"
"${generate[@]}" qa --population new "${options[@]}"
"${generate[@]}" qa --tooluse --population new "${options[@]}"

if wants_database; then
    "$python" -m apps.memory.dataset.sql_db create "${options[@]}"
fi
