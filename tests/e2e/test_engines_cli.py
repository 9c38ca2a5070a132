"""`edge-agent models convert` and `edge-agent engines` as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import checkpoint


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def] - a closure over the store
    """Runs the command with a store of its own and no TensorRT-LLM."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "EDGE_AGENT_MODELS": str(tmp_path / "models"),
            "EDGE_AGENT_TRTLLM_PYTHON": str(tmp_path / "nothing/python"),
        }
        line = [sys.executable, "-m", "edge_agent", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=240, check=False, env=environment)

    return run


@pytest.mark.slow
def test_a_checkpoint_is_converted_and_given_another_form(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def] - as above
    """Once from a directory, then by name alone; both are listed, and a second import of rubbish fails."""
    source = checkpoint(tmp_path / "hf", mels=80, width=64, layers=1)
    done = run("models", "convert", "breeze-asr-25", source, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["form"] == "ctranslate2"
    done = run("models", "convert", "breeze-asr-25", "--to", "onnx", "--precision", "float32", "--json")
    assert done.returncode == 0, done.stderr
    assert (Path(json.loads(done.stdout)["path"]) / "decoder.onnx").is_file()
    (source / "config.json").write_text("{}")
    done = run("models", "convert", "breeze-asr-25", source)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_engines_without_tensorrt_llm(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def] - as above
    """Nothing is listed, nothing is damaged, and a build says what is missing in one line."""
    assert json.loads(run("engines", "list", "--json").stdout) == {"engines": []}
    assert run("engines", "verify").returncode == 0
    assert json.loads(run("engines", "rebuild", "--mark", tmp_path / "built", "--json").stdout) == {
        "built": []
    }
    assert not (tmp_path / "built").exists()
    (tmp_path / "breeze.pt").write_bytes(b"")
    done = run("engines", "build", "breeze-asr-25", tmp_path / "breeze.pt")
    assert done.returncode == 1
    assert "the model breeze-asr-25 is not in" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
