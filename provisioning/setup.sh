# Shared set-up of demo.sh and test.sh: sourced, not run. Leaves a working .venv with the command edge-agent.
# Safe to run again: everything already there is left alone.

set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$repository/.venv"

step() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit "${2:-1}"; }

# The newest of the Python interpreters that we support, or nothing.
find_python() {
    local candidate
    for candidate in "${EDGE_AGENT_PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        # pyenv-style launchers exist for versions that are not installed, so ask the interpreter itself.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
}

has_header() {
    local directory
    for directory in /usr/include /usr/local/include; do [ -e "$directory/$1" ] && return 0; done
    return 1
}

# apt packages that are really missing, one a line. $1: 1 when the tests are to be run.
missing_packages() {
    local python=$1 for_tests=$2
    command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || echo mosquitto
    if [ -z "$python" ]; then
        echo python3; echo python3-venv
    else
        "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
    fi
    # The ALSA binding is published as source only; what follows builds it (about one second).
    if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import alsaaudio' >/dev/null 2>&1 || [ "$for_tests" = 1 ]; then
        command -v gcc >/dev/null 2>&1 || { echo gcc; echo libc6-dev; }
        has_header alsa/asoundlib.h || echo libasound2-dev
        [ -n "$python" ] && "$python" -c 'import sysconfig, pathlib, sys
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' >/dev/null 2>&1 || echo python3-dev
    fi
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

install_packages() {
    local packages=("$@") line
    [ ${#packages[@]} -gt 0 ] || return 0
    line="apt-get install -y --no-install-recommends ${packages[*]}"
    if [ "$(id -u)" != 0 ]; then
        die "these system packages are missing: ${packages[*]}; run: sudo $line" 1
    fi
    command -v apt-get >/dev/null 2>&1 || die "these packages are missing and there is no apt here: ${packages[*]}; install them with your system's package manager"
    step "system packages: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 || step "package lists could not be refreshed; going on with the old ones"
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}" >&2 \
        || die "apt could not install: ${packages[*]}; see its message above, then run: $line"
}

# The venv with the agent and its extras; pip's own settings (index, proxy, certificates) apply.
install_agent() {
    local python=$1 extras=$2 stamp wanted
    if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        step "virtual environment in .venv with $("$python" --version)"
        "$python" -m venv --clear "$venv" || die "no virtual environment could be made with $python; install python3-venv"
    fi
    wanted="$(sha256sum "$repository/pyproject.toml" | cut -c1-64) $repository"
    stamp="$venv/.edge-agent-$extras"
    [ -x "$venv/bin/edge-agent" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    step "Python packages (extras: $extras)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip wheel >&2 \
        || step "pip could not be renewed; going on with $("$venv/bin/python" -m pip --version | cut -d' ' -f1-2)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$repository[$extras]" >&2 \
        || die "pip could not install the agent; see its message above (proxy and mirror come from pip's own settings)"
    printf '%s' "$wanted" >"$stamp"
}

# $1: extras of the package, $2: 1 when the tests are to be run, $3...: models to have.
set_up() {
    local extras=$1 for_tests=$2 python packages
    shift 2
    python=$(find_python)
    mapfile -t packages < <(missing_packages "$python" "$for_tests")
    install_packages "${packages[@]}"
    python=${python:-$(find_python)}
    [ -n "$python" ] || die "Python 3.11 or newer was not found; install python3 (3.11+) or set EDGE_AGENT_PYTHON"
    install_agent "$python" "$extras"
    local model
    for model in "$@"; do "$venv/bin/edge-agent" models pull "$model" >&2; done
}
