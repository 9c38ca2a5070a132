"""`edge-agent transcribe` with the real model on real recordings."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import wave
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.audio.files import read_audio, stream_audio
from edge_agent.bench.score import FIT_REFERENCES, errors, total
from edge_agent.cli import main
from edge_agent.errors import ModelMissing
from edge_agent.models.store import ModelStore
from edge_agent.opening import Wish, open_recogniser
from edge_agent.verbs.common import models_dir
from edge_agent.verbs.recordings import passages
from tests.corpus import Clip, clips


@pytest.fixture(autouse=True)
def _model() -> None:
    try:
        ModelStore(models_dir()).path("whisper-base")
    except ModelMissing:
        pytest.skip("whisper-base is not in the store; fetch it with: edge-agent models pull")


def clip(name: str) -> Clip:
    """The recording with this id."""
    found = clips(id=name)
    if not found:
        pytest.skip(f"the corpus has no clip {name}")
    return found[0]


def write_wav(path: Path, pcm: np.ndarray) -> Path:
    """16 kHz mono, 16 bit."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def transcripts(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, object]]:
    """Run with JSON output; one object a file."""
    capsys.readouterr()
    assert main(["transcribe", "--format", "json", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    files = [argument for argument in arguments if isinstance(argument, Path)]
    return [json.loads(line) for line in out.splitlines()] if len(files) > 1 else [json.loads(out)]


def test_any_container(capsys: pytest.CaptureFixture[str]) -> None:
    """mu-law WAV, MP3 and FLAC at 16 to 48 kHz give the words that were said."""
    names = [
        "whatstheweatherlike_mulaw_wav",
        "whatstheweatherlike_mp3",
        "LJ001-0004_22k_mp3",
        "kathleen_b0270",
    ]
    wanted = [clip(name) for name in names]
    found = transcripts(capsys, *(one.path for one in wanted))
    counted = total(errors(one.text, str(got["text"]), "en") for one, got in zip(wanted, found, strict=True))
    assert counted.rate <= 0.1
    for one, got in zip(wanted, found, strict=True):
        assert got["duration_s"] == pytest.approx(one.duration_s, abs=0.1)


def test_short_words_do_not_vanish(capsys: pytest.CaptureFixture[str]) -> None:
    """One-word recordings are transcribed."""
    wanted = [clip("common_voice_en_22058267"), clip("good_morning"), clip("LJ002-0020")]
    for one, got in zip(wanted, transcripts(capsys, *(one.path for one in wanted)), strict=True):
        assert errors(one.text, str(got["text"]), "en").edits == 0


def test_noise_and_silence_have_no_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Noise, chimes, a barking dog and digital silence give empty text."""
    files = [one.path for one in clips(set="nonspeech")[:12]]
    files.append(write_wav(tmp_path / "silence.wav", np.zeros(160_000, np.float32)))
    assert [got["text"] for got in transcripts(capsys, *files) if got["text"]] == []


def test_other_languages(capsys: pytest.CaptureFixture[str]) -> None:
    """German by name and by detection, Mandarin by name."""
    german, chinese = clip("de_rhasspy-0064"), clip("BAC009S0150W0337")
    for language in ("de", "auto"):
        got = transcripts(capsys, german.path, "--language", language)[0]
        assert got["language"] == "de"
        assert errors(german.text, str(got["text"]), "de").rate <= 0.25
    got = transcripts(capsys, chinese.path, "--language", "zh")[0]
    assert errors(chinese.text, str(got["text"]), "zh").rate <= 0.25


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[float, float, str]]]:
    """Read sentences with pauses of 0.5 to 3 s between them, about 40 s, and when each was said."""
    wanted = [one for one in clips(set="en_read_kathleen") if one.reference in FIT_REFERENCES][:12]
    pieces, said, at = [np.zeros(8_000, np.float32)], [], 0.5
    for index, one in enumerate(wanted):
        pcm = read_audio(one.path)
        pause = (0.5, 1.0, 3.0)[index % 3]
        said.append((at, at + len(pcm) / 16_000, one.text))
        pieces += [pcm, np.zeros(int(pause * 16_000), np.float32)]
        at += len(pcm) / 16_000 + pause
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", np.concatenate(pieces)), said


def test_long_recording(
    capsys: pytest.CaptureFixture[str], long_recording: tuple[Path, list[tuple[float, float, str]]]
) -> None:
    """Nothing is lost at window borders, and segments are in order within the recording."""
    path, said = long_recording
    got = transcripts(capsys, path)[0]
    assert errors(" ".join(text for _, _, text in said), str(got["text"]), "en").rate <= 0.12
    segments = got["segments"]
    assert isinstance(segments, list)
    times = [(segment["start_s"], segment["end_s"]) for segment in segments]
    assert times == sorted(times)
    assert all(start < end <= float(str(got["duration_s"])) for start, end in times)
    # Every sentence was said while some segment was running, and none runs where nobody speaks for long.
    for start, end, _ in said:
        assert any(first < end and last > start for first, last in times)


def test_recording_heard_in_parts(long_recording: tuple[Path, list[tuple[float, float, str]]]) -> None:
    """However long a recording is, memory holds one part of it; no word is lost or doubled between parts."""
    path, said = long_recording
    recogniser = open_recogniser(Wish(models_dir=models_dir()))
    blocks = (block[:, 0] for block in stream_audio(path))
    options = msgspec.structs.replace(recogniser.options, language="auto")
    ticks: list[float] = []
    heard = list(passages(recogniser.engine, blocks, options, workers=2, tick=ticks.append, part_s=10.0))
    recogniser.engine.close()
    text = " ".join(passage.hypothesis.text for passage in heard)
    assert errors(" ".join(text for _, _, text in said), text, "en").rate <= 0.15
    assert all(before.end_s <= after.start_s for before, after in pairwise(heard))
    assert sum(ticks) == pytest.approx(len(read_audio(path)) / 16_000, abs=0.1)
    # Each sentence lies in exactly one passage, at its own time.
    for start, end, _ in said:
        middle = (start + end) / 2
        assert sum(passage.start_s <= middle <= passage.end_s for passage in heard) == 1


def test_subtitles_to_a_directory(
    tmp_path: Path, long_recording: tuple[Path, list[tuple[float, float, str]]]
) -> None:
    """--output writes one file per recording, named after it, and nothing else."""
    path, _ = long_recording
    assert main(["transcribe", str(path), "--format", "srt", "--output", str(tmp_path / "out")]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["long.srt"]
    assert (tmp_path / "out/long.srt").read_text("utf-8").startswith("1\n00:00:0")


def test_recordings_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """a.wav and a.flac are written to a.wav.txt and a.flac.txt."""
    source = clip("good_morning").path
    (tmp_path / "a.flac").write_bytes(source.read_bytes())
    write_wav(tmp_path / "a.wav", read_audio(source))
    files = [str(tmp_path / "a.flac"), str(tmp_path / "a.wav")]
    assert main(["transcribe", *files, "--output", str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.flac.txt", "a.wav.txt"]


def test_bad_files_are_named_and_the_others_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, an empty file, an empty WAV, a missing file: a line each, exit 1, and the good one is done."""
    (tmp_path / "notes.wav").write_text("these are notes")
    (tmp_path / "empty.wav").touch()
    write_wav(tmp_path / "nothing.wav", np.zeros(0, np.float32))
    bad = [tmp_path / name for name in ("notes.wav", "empty.wav", "nothing.wav", "missing.wav")]
    good = clip("good_morning").path
    assert main(["transcribe", *map(str, bad), str(good)]) == 1
    out, err = capsys.readouterr()
    assert "good morning" in out.lower()
    lines = err.splitlines()
    assert len(lines) == len(bad)
    for path in bad:
        assert sum(str(path) in line for line in lines) == 1
    assert "Traceback" not in err


def test_only_bad_files_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing readable: exit 2 and one line."""
    (tmp_path / "empty.wav").touch()
    for path in (tmp_path / "empty.wav", tmp_path / "missing.wav", tmp_path):
        assert main(["transcribe", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1


def test_subtitles_of_several_files_need_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    """Two subtitle files on one stdout would be none."""
    path = str(clip("good_morning").path)
    assert main(["transcribe", "--format", "srt", path, path]) == 2
    assert "--output" in capsys.readouterr().err


def test_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is not here: one line that names it, no traceback."""
    assert main(["transcribe", "--model", "whisper-none", str(clip("good_morning").path)]) == 1
    assert "whisper-none" in capsys.readouterr().err


def test_unknown_language_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A language the model has never heard of is not quietly taken for another."""
    assert main(["transcribe", "--language", "tlh", str(clip("good_morning").path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert '"tlh"' in err
    assert len(err.splitlines()) == 1


def drain(descriptor: int, into: bytearray) -> None:
    """Read until the other side is closed, as a terminal does; it would block the writer otherwise."""
    try:
        while piece := os.read(descriptor, 1 << 16):
            into += piece
    except OSError:  # Linux answers EIO once no process holds the terminal
        pass


@pytest.mark.parametrize(("copies", "shown"), [(1, b"good_morning.flac"), (2, b"2 files")])
def test_bar_only_on_a_terminal(copies: int, shown: bytes) -> None:
    """A terminal on stderr sees a progress bar; stdout is a pipe, and holds the text and nothing else."""
    path = str(clip("good_morning").path)
    command = [sys.executable, "-m", "edge_agent", "transcribe", *[path] * copies]
    controller, terminal = pty.openpty()
    seen = bytearray()
    reader = threading.Thread(target=drain, args=(controller, seen), name="terminal")
    reader.start()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True, timeout=120, env=environment
    )
    os.close(terminal)
    reader.join(10)
    os.close(controller)
    head = f"==> {path} <==\n" if copies == 2 else ""
    # The sign at the end is a tie that rounding decides.
    assert done.stdout.replace("!", ".") == (head + "Good morning.\n") * copies
    assert shown in seen


def test_a_pipe_sees_no_bar() -> None:
    """Without a terminal, stderr stays empty when all is well."""
    command = [sys.executable, "-m", "edge_agent", "transcribe", str(clip("good_morning").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout.replace("!", "."), done.stderr) == ("Good morning.\n", "")
