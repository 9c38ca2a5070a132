"""The doctor finds what is planted, and names what to do; the archive for support holds no secret."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.store import Outbox
from edge_agent.verbs.common import models_dir
from tests.alsa.room import Room
from tests.e2e.agent_process import edge_agent

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "edge_agent"
SAMPLE = PACKAGE / "samples/find_a_way_out.flac"
CUDA_PROFILE = """
extends = "base"
description = "a GPU that is not there"
[match]
arch = ["x86_64", "aarch64"]
[engine]
device = "cuda"
"""


def doctor(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and the checks by name."""
    done = edge_agent("doctor", "--json", *arguments, **environment)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    return done.returncode, {check["name"]: check for check in told["checks"]}


def failed(checks: dict[str, dict[str, str]]) -> dict[str, str]:
    """Remedies of what is not well."""
    return {name: check["remedy"] for name, check in checks.items() if check["status"] != "ok"}


def test_a_sound_box_is_called_sound(tmp_path: Path, broker: PrivateBroker) -> None:
    """Libraries, digests, tokenizer, golden clip, broker; the archive has its parts and no secret."""
    config = tmp_path / "agent.toml"
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    config.write_text(
        f'[audio]\nsource = "file:{SAMPLE}"\n[recognition]\nprompt = "the code word is xyzzy"\n'
        f'terms = ["plugh"]\n[mqtt]\nurl = "{broker.url}"\nusername = "box"\npassword_file = "{secret}"\n'
    )
    archive = tmp_path / "support.tar.gz"
    state = tmp_path / "state"
    waits_in_the_outbox(state, "the password of the vault is frobnicate")
    models = {"EDGE_AGENT_STATE": str(state), "EDGE_AGENT_MODELS": str(models_dir())}
    _, checks = doctor("--config", str(config), "--bundle", str(archive), **models)
    # It does not run, and this machine's clock may not be synchronised; all else is well.
    assert set(failed(checks)) <= {"agent", "clock"}
    assert "came out in" in checks["golden clip"]["detail"]
    assert "lacks 1 of its merges" in checks["tokenizer"]["detail"]  # as it was published
    assert "puts them back" in checks["tokenizer"]["remedy"]
    assert checks["round trip"]["status"] == "ok"
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as bundle:
        parts = {entry.name: bundle.extractfile(entry).read() for entry in bundle}
    assert {Path(name).name for name in parts} >= {
        "checks.json",
        "versions.json",
        "device.json",
        "config.json",
    }
    everything = b"\n".join(parts.values())
    for hidden in (b"hunter2", b"xyzzy", b"plugh", b"frobnicate", b"way out"):
        assert hidden not in everything
    assert b'"queued": 1' in everything, "the outbox is counted, not copied"
    assert b'"username": "box"' in everything


def waits_in_the_outbox(state: Path, text: str) -> None:
    """A transcript that nobody took yet."""
    box = Outbox(state / "outbox.sqlite3", clock=SystemClock())
    box.append(id="1", kind="final", make_payload=lambda seq: json.dumps({"text": text}).encode())
    box.close()


def test_a_tokenizer_that_lost_merges_is_found(tmp_path: Path) -> None:
    """The first merge cut out of a whole file is put back, and told."""
    model = tmp_path / "mine"
    shutil.copytree(models_dir() / "whisper-tiny.en/source", model)
    published = json.loads((model / "tokenizer.json").read_text())
    merges = published["model"]["merges"]
    assert len(merges) == 50_000
    del merges[0]
    (model / "tokenizer.json").write_text(json.dumps(published))
    source = ("--set", f'audio.source="file:{SAMPLE}"', "--set", f'recognition.model="{model}"')
    _, checks = doctor(*source)
    assert "lacks 1 of its merges" in checks["tokenizer"]["detail"]
    assert "puts them back" in checks["tokenizer"]["remedy"]
    assert checks["golden clip"]["status"] == "ok"


def test_faults_around_the_agent_are_found(tmp_path: Path) -> None:
    """A wrong twin of onnxruntime, telemetry on, a muted microphone, no broker, a skewed clock."""
    room = Room(tmp_path / "room", np.zeros(16_000, np.float32))
    place = tmp_path / "site"
    # The agent's files are from a time that this clock has not reached: so the clock is wrong.
    shutil.copytree(PACKAGE, place / "edge_agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "profiles", place / "profiles")
    later = time.time() + 400 * 86_400
    os.utime(place / "edge_agent/verbs/health.py", (later, later))
    twin = place / "onnxruntime_gpu-1.31.1.dist-info"
    twin.mkdir()
    (twin / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    code, checks = doctor(
        "--set",
        "audio.source=alsa:mic",
        "--set",
        'mqtt.url="mqtt://127.0.0.1:9"',
        PYTHONPATH=str(place),
        ALSA_CONFIG_PATH=str(room.folder / "asound.conf"),
        ORT_DISABLE_TELEMETRY="0",
        PYTHONSAFEPATH="1",
        EDGE_AGENT_MODELS=str(tmp_path / "none"),
    )
    assert code == 1
    remedies = failed(checks)
    assert "pip uninstall onnxruntime" in remedies["onnxruntime"]
    assert "ORT_DISABLE_TELEMETRY=1" in remedies["telemetry"]
    assert "unmute" in remedies["microphone"]
    assert "broker" in remedies["broker"]
    assert "400 days before" in checks["clock"]["detail"]
    assert "timedatectl" in remedies["clock"]


def test_half_a_model_and_a_missing_cublas_are_found(tmp_path: Path) -> None:
    """Damaged files are not even read further; a profile for a GPU tells which library is not there."""
    store = tmp_path / "models"
    shutil.copytree(models_dir() / "whisper-base/source", store / "whisper-base/source")
    whole = store / "whisper-base/source/model.bin"
    os.truncate(whole, whole.stat().st_size // 2)
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "cuda.toml").write_text(CUDA_PROFILE)
    source = ("--set", f'audio.source="file:{SAMPLE}"', "--set", "recognition.profile=cuda")
    _, checks = doctor(*source, EDGE_AGENT_MODELS=str(store), EDGE_AGENT_PROFILES=str(profiles))
    for name in ("model", "digests", "golden clip"):
        assert checks[name]["status"] == "fail", name
        assert "model" in checks[name]["remedy"]
    assert "tokenizer" not in checks
    if checks["library libcublas"]["status"] == "ok":
        pytest.skip("this machine has cuBLAS")
    assert "nvidia-cublas-cu12" in checks["library libcublas"]["remedy"]


def test_health_writes_its_facts_for_prometheus(tmp_path: Path) -> None:
    """A whole file appears at once; a place that cannot be written is told."""
    target = tmp_path / "edge_agent.prom"
    source = ("--set", f'audio.source="file:{SAMPLE}"', "--set", 'mqtt.url="mqtt://127.0.0.1:9"')
    done = edge_agent("health", "--prometheus", str(target), *source)
    assert done.returncode == 1, done.stderr
    assert 'edge_agent_check{check="broker"} 2' in target.read_text()
    refused = edge_agent("health", "--prometheus", "/proc/nowhere/x.prom", *source)
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr
