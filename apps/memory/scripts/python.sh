# Sourced by the scripts beside it: finds the repository, and an interpreter that has what nanollama needs.

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)"
export PYTHONPATH="$repository:$repository/src${PYTHONPATH:+:$PYTHONPATH}"
python="$repository/.venv/bin/python"
[[ -x "$python" ]] || python="$(command -v python3 || command -v python)" || fail "Python is not installed."
"$python" -c "import numpy, pydantic, ruamel.yaml" 2>/dev/null ||
    fail "$python lacks packages of nanollama; run 'make venv' in $repository first."
