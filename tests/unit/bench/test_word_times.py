"""Word times against two independent judges; needs faster-whisper and takes a minute."""

from __future__ import annotations

import pytest

from edge_agent.types import Word
from tests.benchmarks.decoding import word_times
from tests.benchmarks.decoding.word_times import PeerWord

pytest.importorskip("whisper_normalizer")


def test_only_words_both_heard_are_compared() -> None:
    """In their order; Chinese by character, a word of several sharing its time."""
    ours = [
        Word(text="turn", start_s=0.1, end_s=0.4, confidence=0.9),
        Word(text="on", start_s=0.4, end_s=0.6, confidence=0.9),
    ]
    peer = [PeerWord(" Turn", 0.0, 0.4), PeerWord(" off", 0.4, 0.6)]
    assert word_times.compare(ours, peer, "en") == word_times.Compared(2, 2, (0.1,), (0.0,))
    pair = word_times.pieces([PeerWord("天气", 1.0, 2.0)], "zh")
    assert pair == [("天", 1.0, 1.5), ("气", 1.5, 2.0)]


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_lie_where_the_peer_has_them(language: str) -> None:
    """Half of all starts and ends within 40 ms, nine of ten within 150, with a third of the context."""
    pytest.importorskip("faster_whisper")
    opened = word_times.common.engine("whisper-base", layout="plain")
    peer = word_times.Peer("whisper-base")
    gaps = []
    for clip in word_times.chosen_clips(language, 8):
        pcm = word_times.read_audio(clip.path)
        options = word_times.DecodeOptions(language=language, words=True)
        ours = opened.transcribe(pcm, options=options).words
        found = word_times.compare(ours, peer.words(pcm, language), language)
        gaps += [abs(value) for value in (*found.starts, *found.ends)]
    gaps.sort()
    assert len(gaps) > 60
    assert gaps[len(gaps) // 2] <= 0.04
    assert gaps[int(0.9 * len(gaps))] <= 0.15
