#!/usr/bin/env bash
# The tests, from a bare Debian 12, in one command:
#   ./provisioning/test.sh             what every change must pass (linters, types, unit to end-to-end tests)
#   ./provisioning/test.sh slow        the tests that take minutes
#   ./provisioning/test.sh faults      the fault bench; writes tests/fault/RESULTS.md
#   ./provisioning/test.sh peers       comparisons with other software
#   ./provisioning/test.sh PYTEST-ARGUMENTS...
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up cpu,alsa,bench,dev 1 whisper-base whisper-tiny.en
cd "$repository"
PATH="$venv/bin:$PATH"
case "${1:-}" in
    slow | peers | soak | faults)
        mark=$1
        shift
        exec pytest -m "$mark" "$@"
        ;;
    "")
        step "ruff" && ruff check . && ruff format --check .
        step "mypy" && mypy
        step "import rules" && lint-imports
        step "pytest" && exec pytest
        ;;
    *) exec pytest "$@" ;;
esac
