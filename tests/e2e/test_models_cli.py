"""`edge-agent models` as a person uses it: facts on stdout, one clear line and an exit code for a mistake."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue with one small model, to be had from a directory."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "model.bin").write_bytes(b"m" * 5000)
    digest = hashlib.sha256(b"m" * 5000).hexdigest()
    path = tmp_path / "catalogue.toml"
    path.write_text(
        f'[small]\nlicence = "MIT"\ndescription = "for tests"\n'
        f'files = [{{ path = "model.bin", size_bytes = 5000, sha256 = "{digest}" }}]\n'
        f'[[small.sources]]\nkind = "dir"\npath = "{origin}"\n'
    )
    return path


def models(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb with a store of its own."""
    environment = {**os.environ, "EDGE_AGENT_MODELS": str(tmp_path / "models")}
    command = [sys.executable, "-m", "edge_agent", "models", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=Path.cwd()
    )


def assert_one_clear_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The exit code, no traceback, and the words in the last line."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in line


def test_pull_list_prune(tmp_path: Path, catalogue: Path) -> None:
    """Fetched, listed, pruned."""
    pulled = models(tmp_path, "pull", "small", "--json", "--catalog", str(catalogue))
    assert pulled.returncode == 0, pulled.stderr
    facts = json.loads(pulled.stdout)
    assert Path(facts["path"]).is_dir()
    assert facts["published_name"].startswith("small@")
    listed = json.loads(models(tmp_path, "list", "--json", "--catalog", str(catalogue)).stdout)
    here = {model["name"]: model["here"] for model in listed["models"]}
    assert here == {"small": True, "whisper-base": False, "whisper-tiny.en": False}
    pruned = models(tmp_path, "prune", "--keep", "whisper-base", "--json")
    assert json.loads(pruned.stdout)["kept"] == []


def test_a_name_nobody_knows(tmp_path: Path) -> None:
    """The line lists what there is."""
    assert_one_clear_line(models(tmp_path, "pull", "whisper-huge"), 1, "whisper-huge", "whisper-base")


def test_a_model_that_is_not_here(tmp_path: Path) -> None:
    """The line holds the command that helps."""
    assert_one_clear_line(
        models(tmp_path, "verify", "whisper-base"), 1, "edge-agent models pull whisper-base"
    )


def test_a_source_that_does_not_exist(tmp_path: Path, catalogue: Path) -> None:
    """Wrong usage names the sources there are."""
    done = models(tmp_path, "pull", "small", "--source", "hub", "--catalog", str(catalogue))
    assert_one_clear_line(done, 2, '"hub"', "dir")


def test_a_source_that_cannot_deliver(tmp_path: Path, catalogue: Path) -> None:
    """An empty directory is told, with the other way to get the model in."""
    (tmp_path / "empty").mkdir()
    source = str(tmp_path / "empty")
    done = models(tmp_path, "pull", "small", "--source", source, "--catalog", str(catalogue))
    assert_one_clear_line(done, 69, "No such file", "edge-agent models import small")


def test_a_damaged_model(tmp_path: Path, catalogue: Path) -> None:
    """A corrupt file is told by name, and pulling mends it."""
    models(tmp_path, "pull", "small", "--catalog", str(catalogue))
    (tmp_path / "models/small/source/model.bin").write_bytes(b"x" * 5000)
    done = models(tmp_path, "verify", "--catalog", str(catalogue))
    assert_one_clear_line(done, 1, "model.bin", "edge-agent models pull small")
    mended = models(tmp_path, "pull", "small", "--catalog", str(catalogue))
    assert mended.returncode == 0, mended.stderr
    assert (tmp_path / "models/small/source/model.bin").read_bytes() == b"m" * 5000


def test_a_store_that_cannot_be_written(tmp_path: Path, catalogue: Path) -> None:
    """A file where the store should be is told, not traced."""
    (tmp_path / "models").write_text("in the way")
    done = models(tmp_path, "pull", "small", "--catalog", str(catalogue))
    assert_one_clear_line(done, 1, "models", "EDGE_AGENT_MODELS")


def test_a_wrong_catalogue(tmp_path: Path) -> None:
    """A broken catalogue is a configuration error."""
    (tmp_path / "broken.toml").write_text("[small")
    done = models(tmp_path, "list", "--catalog", str(tmp_path / "broken.toml"))
    assert_one_clear_line(done, 78, "broken.toml")


def test_the_installed_models_are_what_they_should_be() -> None:
    """On this machine: digests, tokenizer and golden clip of every model here."""
    command = [sys.executable, "-m", "edge_agent", "models", "verify", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert all(model["well"] for model in json.loads(done.stdout).values())
