# What the scripts that write data are told: `read_arguments LARGEST FURTHER "$@"` reads N [--yes] [--root DIR] and the
# option FURTHER with its value, if there is one, into yes and options; `wants_database` asks, unless --yes was given.

fail() {
    echo "$1" >&2
    exit 2
}

read_arguments() {
    local script usage largest="$1" further="$2" n_people="" root="data"
    script="$(basename "$0")"
    shift 2
    usage="usage: $script N [--yes] [--root DIR]${further:+ [$further VALUE]}   (N people, 1 to $largest; --yes asks nothing)"
    yes=false options=()
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
            -*)
                [[ -n "$further" && "$1" == "$further" ]] || fail "Unknown option '$1'; $usage"
                (($# >= 2)) || fail "$1 needs a value; $usage"
                options+=("$1" "$2")
                shift
                ;;
            *)
                [[ -z "$n_people" ]] || fail "Expected one number of people, got '$n_people' and '$1'; $usage"
                n_people="$1"
                ;;
        esac
        shift
    done
    [[ "$n_people" =~ ^[0-9]{1,9}$ ]] || fail "Expected a number of people, got '$n_people'; $usage"
    options+=(--num "$n_people" --root "$root")
}

wants_database() {
    $yes && return
    printf "Make the SQLite database as well? [y/N] "
    local answer=""
    read -r answer || true # the end of the input is a no
    [[ "$answer" =~ ^[Yy]([Ee][Ss])?$ ]]
}
