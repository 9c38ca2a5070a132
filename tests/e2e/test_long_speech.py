"""Who reads on without a pause loses no word and hears none twice where the agent has to cut."""

from __future__ import annotations

import pytest

from edge_agent.audio.segment import EndpointConfig
from edge_agent.engine.base import Engine, EngineConfig, open_engine
from edge_agent.errors import ModelMissing
from edge_agent.models.store import ModelStore
from edge_agent.types import SAMPLE_RATE_HZ, Utterance
from edge_agent.verbs.common import models_dir
from tests.benchmarks.long_speech import by_agent, by_hand, reading, score


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base as installed."""
    try:
        directory = ModelStore(models_dir()).path("whisper-base")
    except ModelMissing:
        pytest.skip("whisper-base is not here")
    opened = open_engine(EngineConfig(kind="ctranslate2", model_dir=directory, model_name="whisper-base"))
    opened.warm_up()
    return opened


def seamless(utterances: list[Utterance]) -> None:
    """Each starts at the very sample at which the one before ended."""
    ends = [one.start_ns + round(len(one.pcm) * 1e9 / SAMPLE_RATE_HZ) for one in utterances]
    starts = [one.start_ns for one in utterances]
    assert all(abs(start - end) < 62_500 for start, end in zip(starts[1:], ends, strict=False))


def test_the_seams_cost_no_words(engine: Engine) -> None:
    """Over a minute, cut every eight seconds, inside the speech, against cuts where sentences end.

    A word lost or doubled at each seam would cost 4 to 5 points.
    """
    read = reading(75.0)
    cut = by_agent(read.sound, EndpointConfig(max_utterance_s=8.0))
    assert [one.cut for one in cut[:-1]] == ["max_length"] * (len(cut) - 1)
    assert len(cut) >= 9
    seamless(cut)
    reference = " ".join(read.texts)
    ours = score([one.pcm for one in cut], engine, reference)
    hand = score(by_hand(read, 8.0), engine, reference)
    assert ours.rate < hand.rate + 0.025


@pytest.mark.slow
def test_thirty_minutes_of_reading(engine: Engine) -> None:
    """As the agent comes: the word error rate is within half a point of that of cuts made by hand."""
    read = reading(30 * 60.0)
    cut = by_agent(read.sound)
    assert {one.cut for one in cut[:-1]} == {"max_length"}
    seamless(cut)
    reference = " ".join(read.texts)
    ours = score([one.pcm for one in cut], engine, reference)
    hand = score(by_hand(read), engine, reference)
    assert ours.rate <= hand.rate + 0.005
