#!/usr/bin/env bash
# From a bare Debian 12 to real speech on a real broker, in one command:
#   ./provisioning/demo.sh [--json] [--fast] [WAV...]
# Sets up .venv, fetches the model once, then runs `edge-agent demo` with the arguments given.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up cpu,alsa 0
exec "$venv/bin/edge-agent" demo "$@"
