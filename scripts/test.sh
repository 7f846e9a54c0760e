#!/bin/sh
# Installs txworker with all that checks it into .venv, then: lint, types, tests. Arguments go to pytest.
# TXWORKER_SLOW=1 runs the tests that take longer instead.
set -eu
. "$(dirname "$0")/venv.sh"
venv_with "[test,lint,types]"

cd "$top"
PATH=$venv/bin:$PATH
export PATH
if [ "${TXWORKER_SLOW:-}" = 1 ]; then
    exec python -m pytest -m slow "$@"
fi
ruff check .
ruff format --check --quiet .
mypy
exec python -m pytest -m "not slow" "$@"
