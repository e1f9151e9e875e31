# Sourced by the scripts beside it, at the root of the repository: finds an interpreter that has what nanollama needs.

usage() {
    echo "usage: $1" >&2
    exit 2
}

export PYTHONPATH="$PWD:$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
python="$PWD/.venv/bin/python"
[[ -x "$python" ]] || python="$(command -v python3 || command -v python)" || {
    echo "Python is not installed." >&2
    exit 2
}
"$python" -c "import numpy, pydantic, ruamel.yaml" 2>/dev/null || {
    echo "$python lacks packages of nanollama; run 'make venv' in $PWD first." >&2
    exit 2
}
