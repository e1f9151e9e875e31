#!/usr/bin/env bash
# Writes people, biographies and dialogs of the first N people, then the SQLite database if wanted.
set -euo pipefail

usage="usage: generate_data.sh N [--yes] [--root DIR]   (N people, 1 to 169556; --yes asks nothing)"
fail() {
    echo "$1" >&2
    exit 2
}

n_people="" yes=false root="data"
while (($#)); do
    case "$1" in
        --yes) yes=true ;;
        --root)
            (($# >= 2)) || fail "--root needs a folder; $usage"
            root="$2"
            shift
            ;;
        -h | --help)
            echo "$usage"
            exit 0
            ;;
        -*) fail "Unknown option '$1'; $usage" ;;
        *)
            [[ -z "$n_people" ]] || fail "Expected one number of people, got '$n_people' and '$1'; $usage"
            n_people="$1"
            ;;
    esac
    shift
done
[[ "$n_people" =~ ^[0-9]{1,9}$ ]] || fail "Expected a number of people, got '$n_people'; $usage"

source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
generate=("$python" -m apps.memory.dataset.generate)
options=(--num "$n_people" --root "$root")
"${generate[@]}" people "${options[@]}"
"${generate[@]}" biographies "${options[@]}"
"${generate[@]}" qa "${options[@]}"
"${generate[@]}" qa --tooluse "${options[@]}"

if ! $yes; then
    printf "Make the SQLite database as well? [y/N] "
    answer=""
    read -r answer || true # the end of the input is a no
    [[ "$answer" =~ ^[Yy]([Ee][Ss])?$ ]] || exit 0
fi
"$python" -m apps.memory.dataset.sql_db create "${options[@]}"
