#!/bin/sh
# Installs txworker with all that checks it into .venv, then runs: lint, types, the everyday tests.
# Arguments go to pytest. The everyday tests run on all CPUs; the tests that take longer one after another, because
# some of them put load on the machine.
# TXWORKER_SLOW=1 runs the tests that take longer instead.
# TXWORKER_COVERAGE=1 measures coverage meanwhile, shows it, and fails below the floor in pyproject.toml.
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
if [ "${TXWORKER_COVERAGE:-}" = 1 ]; then
    COVERAGE_PROCESS_START=$top/pyproject.toml
    COVERAGE_FILE=$top/.coverage
    export COVERAGE_PROCESS_START COVERAGE_FILE
    coverage erase
    coverage run -m pytest -m "not slow" -n auto --dist loadfile "$@"
    coverage combine --quiet
    exec coverage report
fi
exec python -m pytest -m "not slow" -n auto --dist loadfile "$@"
