"""The main job: audio in, transcripts out of a real broker, by a real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.bench import score
from edge_agent.mqtt import contract, wire
from tests.corpus import clips
from tests.e2e.agent_process import edge_agent, finals, messages


def test_the_bundled_demo_says_its_words_at_the_pace_of_speech() -> None:
    """Nothing configured: both recordings come back right, soon after the silence that ends them."""
    done = edge_agent("demo", "--json")
    assert done.returncode == 0, done.stderr
    said = finals(messages(done))
    assert [body["text"] for body in said] == [
        "Let us talk it over and find a way out.",
        "They saw each other for the first time in Boston.",
    ]
    for body in said:
        latency = body["latency_ms"]
        assert latency["total"] == pytest.approx(sum(latency.values()) - latency["total"], abs=3)
        assert 590 <= latency["endpoint"] <= 900


def test_every_message_keeps_the_contract() -> None:
    """Each payload a subscriber receives is valid by its JSON Schema, and seq has no holes."""
    done = edge_agent("demo", "--json", "--fast")
    received = messages(done)
    for message in received:
        parsed = wire.parse_topic("edge", message["topic"])
        assert parsed is not None
        assert contract.problems(parsed[1], message["payload"], strict=True) == []
    kinds = {message["topic"].split("/up/")[1] for message in received}
    assert {"status", "info", "health", "transcript/final"} <= kinds
    seqs = [m["payload"]["seq"] for m in received if "seq" in m["payload"]]
    assert seqs == list(range(1, len(seqs) + 1))


def test_words_survive_the_whole_path() -> None:
    """Read English through the whole path stays within the model's own error rate."""
    chosen = clips(set="en_read_kathleen", reference="verbatim")[:12]
    done = edge_agent("demo", "--json", "--fast", *[str(clip.path) for clip in chosen])
    assert done.returncode == 0, done.stderr
    heard = " ".join(body["text"] for body in finals(messages(done)))
    assert score.errors(" ".join(clip.text for clip in chosen), heard, "en").rate <= 0.12


def test_a_silent_and_a_noisy_recording_publish_no_words(tmp_path: Path) -> None:
    """A minute of digital silence and a minute of noise end without a final."""
    import wave

    generator = np.random.default_rng(5)
    noise = (generator.standard_normal(60 * 16_000) * 300).astype("<i2")
    for name, samples in (("silence.wav", np.zeros(60 * 16_000, "<i2")), ("noise.wav", noise)):
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(samples.tobytes())
    done = edge_agent("demo", "--json", "--fast", str(tmp_path / "silence.wav"), str(tmp_path / "noise.wav"))
    assert done.returncode == 0, done.stderr
    assert finals(messages(done)) == []


def test_recorded_noises_publish_no_words() -> None:
    """Music, chimes, tones and rooms: no words are invented."""
    chosen = clips(set="nonspeech")
    done = edge_agent("demo", "--json", "--fast", *[str(clip.path) for clip in chosen])
    assert done.returncode == 0, done.stderr
    assert [body["text"] for body in finals(messages(done))] == []
