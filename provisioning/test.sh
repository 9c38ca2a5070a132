#!/usr/bin/env bash
# The tests, from a bare Debian 12, in one command:
#   ./provisioning/test.sh             what every change must pass (linters, types, unit to end-to-end tests)
#   ./provisioning/test.sh slow        the tests that take minutes
#   ./provisioning/test.sh faults      the fault bench; writes tests/fault/RESULTS.md
#   ./provisioning/test.sh systemd     the service and its package under a real systemd: hangs, kills, lost
#                                      microphones, full disks, heat, overload, installation, cost; as root, half
#                                      an hour; writes tests/systemd/RESULTS.md and tests/benchmarks/RESULTS.md
#   ./provisioning/test.sh browser     the fleet page in Chromium without a screen; writes tests/browser/RESULTS.md
#   ./provisioning/test.sh peers       comparisons with other software
#   ./provisioning/test.sh PYTEST-ARGUMENTS...
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# What only the long suites need: COMMAND-OR-FILE PACKAGE, those that are missing.
missing_for_long_suites() {
    local thing package
    while read -r thing package; do
        command -v "$thing" >/dev/null 2>&1 || [ -e "$thing" ] || compgen -G "$thing" >/dev/null || echo "$package"
    done <<END
systemd-nspawn systemd-container
/lib/systemd/systemd systemd-sysv
systemd-analyze systemd
debootstrap debootstrap
strace strace
/usr/lib/*/faketime/libfaketimeMT.so.1 faketime
ip iproute2
tc iproute2
nft nftables
mkfs.ext4 e2fsprogs
mkfs.xfs xfsprogs
readelf binutils
unshare util-linux
END
}

# Of the package lists of the system; without root those tests say what they lack and are skipped.
prepare_long_suite() {
    local packages
    mapfile -t packages < <(missing_for_long_suites | sort -u)
    [ ${#packages[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ]; then
        install_packages "${packages[@]}"
    else
        step "not root: tests that break a whole system are skipped; some need, too: apt-get install ${packages[*]}"
    fi
}

# The browser and its driver, by Debian's names.
prepare_browser() {
    local packages=()
    command -v chromium >/dev/null 2>&1 || packages+=(chromium)
    command -v chromedriver >/dev/null 2>&1 || packages+=(chromium-driver)
    install_packages "${packages[@]}"
}

extras=cpu,alsa,bench,dev
[ "${1:-}" != browser ] || extras+=,browser
set_up "$extras" 1 whisper-base whisper-tiny.en
cd "$repository"
PATH="$venv/bin:$PATH"
case "${1:-}" in
    slow | peers | soak | faults)
        mark=$1
        shift
        prepare_long_suite
        exec pytest -m "$mark" "$@"
        ;;
    browser)
        shift
        prepare_browser
        export EDGE_AGENT_RECORD=1
        exec pytest -m browser tests/browser "$@"
        ;;
    systemd)
        shift
        prepare_long_suite
        export EDGE_AGENT_RECORD=1
        status=0
        pytest -m "slow or not slow" tests/systemd tests/e2e/test_deb.py tests/e2e/test_unplug_cycles.py \
            tests/e2e/test_memory_limit.py tests/e2e/test_overload.py tests/e2e/test_doctor.py "$@" || status=$?
        step "cost of a box: idle, one and four microphones"
        python -m tests.benchmarks.upkeep --write || status=1
        exit $status
        ;;
    "")
        # One command a line: "set -e" overlooks what fails before an "&&".
        step "ruff"
        ruff check .
        ruff format --check .
        step "mypy"
        mypy
        step "import rules"
        lint-imports
        step "pytest"
        exec pytest
        ;;
    *) exec pytest "$@" ;;
esac
