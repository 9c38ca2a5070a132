"""`edge-agent bench` with the real model: the figures are there, and the peer is the real one."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_agent.bench import score
from edge_agent.bench.figure import written
from edge_agent.cli import main
from edge_agent.errors import ModelMissing
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir
from tests.corpus import REPOSITORY

SPEECH = REPOSITORY / "tests/speech/audio"
GOOD_MORNING = SPEECH / "en_commands_azure/good_morning.flac"
WEATHER = SPEECH / "en_commands_azure/whatstheweatherlike.flac"


@pytest.fixture(autouse=True)
def _model() -> None:
    store = ModelStore(models_dir())
    try:
        store.path("whisper-base")
    except ModelMissing:
        pytest.skip("whisper-base is not in the store; fetch it with: edge-agent models pull")


def needs_peer() -> None:
    """Skip where the extra `bench` is not installed."""
    if importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("faster-whisper is not installed (extra bench)")
    if not ModelStore(models_dir()).has_source("whisper-base"):
        pytest.skip("only the prepared form of whisper-base is in the store")


def facts(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, object]]:
    """Run with --json and read stdout, on which nothing else may be."""
    capsys.readouterr()
    assert main(["bench", *map(str, arguments), "--json"]) == 0
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_latency_against_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    """Text and seconds of both sides per clip, on the CPUs asked for, with the ratio in the summary."""
    needs_peer()
    before = os.sched_getaffinity(0)
    arguments = ("latency", "--against", "faster-whisper", "--threads", 1, "--runs", 1, GOOD_MORNING, WEATHER)
    found = facts(capsys, *arguments)
    assert os.sched_getaffinity(0) == before
    assert [clip["file"] for clip in found["clips"]] == [str(GOOD_MORNING), str(WEATHER)]
    for clip in found["clips"]:
        # The same words; a sign at the end may be a tie between two that rounding decides.
        assert score.errors(clip["peer"]["text"], clip["ours"]["text"], "en").edits == 0
        assert 0 < clip["ours"]["seconds"] < 60
        assert 0 < clip["peer"]["seconds"] < 60
    summary = found["summary"]
    assert summary["threads"] == 1
    assert str(summary["peer_name"]).startswith("faster-whisper ")
    assert summary["ratio"]["clips"] == summary["ratio_up_to_4_s"]["clips"] == 2


def test_accuracy_reads_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    """References come from the manifest above the recordings; German stays apart from English."""
    pytest.importorskip("whisper_normalizer")
    german = SPEECH / "de_read_kerstin/de_rhasspy-0129.flac"
    found = facts(capsys, "accuracy", GOOD_MORNING, german)
    rows = {(row["set"], row["language"]): row for row in found["summary"]["sets"]}
    assert rows["en_commands_azure", "en"]["ours_percent"] == 0
    assert rows["all", "de"]["units"] == 2


def test_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    """Audio seconds per second with all workers, and the texts."""
    found = facts(capsys, "throughput", "--runs", 1, GOOD_MORNING, WEATHER)
    assert found["summary"]["ours"]["audio_s_per_s"] > 0
    said = [score.units(clip["ours"]["text"], "en") for clip in found["clips"]]
    assert said == [score.units(text, "en") for text in ("Good morning.", "What's the weather like?")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["latency", "throughput", "accuracy"])
def test_each_measurement_tells_both_sides_of_every_clip(
    capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Clips with file, duration, text and seconds of both sides, and a summary: what scripts rely on."""
    needs_peer()
    pytest.importorskip("whisper_normalizer")
    found = facts(capsys, what, "--against", "faster-whisper", "--runs", 1, GOOD_MORNING, WEATHER)
    assert set(found) == {"clips", "summary"}
    for clip, path in zip(found["clips"], (GOOD_MORNING, WEATHER), strict=True):
        assert set(clip) == {"file", "duration_s", "ours", "peer"}
        assert clip["file"] == str(path)
        for side in ("ours", "peer"):
            assert isinstance(clip[side]["text"], str)
            assert clip[side]["seconds"] > 0
    assert found["summary"]["what"] == what


def test_bundled_recordings_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments a person gets a table of the bundled recordings."""
    assert main(["bench", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "find_a_way_out.flac" in out
    assert "ours" in out


def test_missing_peer_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without faster-whisper one line says what to install."""
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert main(["bench", "latency", "--against", "faster-whisper", str(GOOD_MORNING)]) == 2
    err = capsys.readouterr().err
    assert "edge-asr-agent[bench]" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--threads", "999"], ["--references", "/nowhere/manifest.jsonl"]])
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """What cannot be done is said in one line, before a model is loaded."""
    assert main(["bench", "latency", *arguments, str(GOOD_MORNING)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_accuracy_without_references_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A recording nobody has transcribed has no error rate."""
    path = tmp_path / "a.flac"
    path.write_bytes(GOOD_MORNING.read_bytes())
    assert main(["bench", "accuracy", str(path)]) == 2
    assert "--references" in capsys.readouterr().err


def test_plot_of_what_was_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A figure beside the table, with the median that JSON tells too."""
    path = tmp_path / "latency.svg"
    found = facts(capsys, "--plot", path, "latency", "--runs", 1, GOOD_MORNING, WEATHER)
    root = ElementTree.fromstring(path.read_text())
    told = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    median_ms = 1e3 * found["summary"]["ours"]["median_s"]
    assert any(f"median {written(median_ms)} ms" in line for line in told)


def test_plot_of_a_live_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Through the whole agent and a broker."""
    path = tmp_path / "live.svg"
    facts(capsys, "latency", "--live", "--plot", path, GOOD_MORNING)
    root = ElementTree.fromstring(path.read_text())
    told = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Final after the silence that ends an utterance" in told
    assert any("(1 utterance" in line for line in told)


def test_plot_elsewhere_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["bench", "latency", "--plot", "/nowhere/a.svg", str(GOOD_MORNING)]) == 2
    err = capsys.readouterr().err
    assert "there is no directory /nowhere" in err
    assert len(err.splitlines()) == 1
