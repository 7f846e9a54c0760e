# Sourced by try.sh and test.sh: makes .venv at the top of the project and leaves its path in $venv.
# venv_with EXTRAS installs the project into it with those extras ("" for none).

unset VIRTUAL_ENV PYTHONPATH PYTHONHOME || true
top=$(cd "$(dirname "$0")/.." && pwd)
venv=$top/.venv

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "txworker needs Python 3.10 or newer, and there is none on the PATH" >&2
    exit 1
}

venv_with() {
    python=$(find_python)
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        if ! "$python" -c 'import ensurepip' 2>/dev/null; then
            echo "$python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
            exit 1
        fi
        "$python" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$top$1"
}
