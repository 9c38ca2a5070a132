#!/usr/bin/env bash
# Sets up the environment of its own that TensorRT-LLM needs (x86_64 with a data centre GPU; not yet run on
# hardware), and TensorRT-LLM's Whisper example, whose converter `edge-agent engines build` calls.
# Its pins (numpy below 2, one version of transformers) and MPI stay out of the agent's environment.
set -euo pipefail

version=1.2.1  # the last stable release that runs engine files
place=${1:-/opt/edge-agent/trtllm}

step() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || die "TensorRT-LLM is for x86_64 machines with a GPU on a card"
command -v nvidia-smi >/dev/null || die "no NVIDIA driver: nvidia-smi is not there"
command -v mpirun >/dev/null || die "OpenMPI is needed even for one GPU: apt install libopenmpi-dev openmpi-bin"
python=$(command -v python3.12 || command -v python3.10) || die "its wheel is for Python 3.10 and 3.12"

step "environment in $place"
[ -x "$place/bin/python" ] || "$python" -m venv "$place"
"$place/bin/pip" install --quiet --upgrade "tensorrt-llm==$version" "msgspec>=0.19,<1"

step "Whisper example of $version"
if ! [ -f "$place/examples/whisper/convert_checkpoint.py" ]; then
    source=$(mktemp -d)
    trap 'rm -rf "$source"' EXIT
    git clone --quiet --depth 1 --branch "v$version" --filter=blob:none --sparse \
        https://github.com/NVIDIA/TensorRT-LLM "$source"
    git -C "$source" sparse-checkout set examples/models/core/whisper
    mkdir -p "$place/examples"
    cp -r "$source/examples/models/core/whisper" "$place/examples/"
fi

step "check"
"$place/bin/python" -c 'from tensorrt_llm.bindings import executor; executor.Executor' >/dev/null
if [ -d /run/systemd/system ] && [ "$place" = /opt/edge-agent/trtllm ] &&
    systemctl cat edge-agent-engines.timer >/dev/null 2>&1; then
    step "engines that fit no more are built again in the background"
    systemctl enable --quiet --now edge-agent-engines.timer
fi
echo "edge-agent finds it at $place; elsewhere name it: EDGE_AGENT_TRTLLM_PYTHON=$place/bin/python" >&2
