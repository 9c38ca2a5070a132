"""What silences teach: probes that are talked over come later, the wait follows the speaker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.audio.pauses import Pauses
from edge_agent.audio.segment import Ended, EndpointConfig, Paused, Segmenter
from edge_agent.types import Ending

BOUNDS = (350, 1500)


def after(*silences: float | None) -> Pauses:
    """None: it ended the utterance."""
    pauses = Pauses()
    for length_ms in silences:
        if length_ms is None:
            pauses.held()
        else:
            pauses.went_on(length_ms)
    return pauses


def test_a_speaker_who_stops_is_looked_at_early() -> None:
    """A wasted probe now and then changes nothing."""
    assert after(None, None, 300, None, None, None).probe_ms(200, 600) == 200


def test_above_half_wasted_the_probe_comes_later() -> None:
    """At 200 ms three of four would be for nothing, at 300 ms still most, at 400 ms none."""
    pauses = after(*[250, 380, 310, None] * 5)
    assert pauses.probe_ms(200, 600) == 400


def test_where_no_probe_pays_there_is_none() -> None:
    """The final decode then starts at the endpoint."""
    assert after(*[590] * 20).probe_ms(200, 600) == 600


def test_the_probe_recovers_when_it_pays_again() -> None:
    """The last twenty silences count, whatever the probe was meanwhile."""
    pauses = after(*[310] * 20)
    assert pauses.probe_ms(200, 600) == 400
    for _ in range(10):
        pauses.held()
    assert pauses.probe_ms(200, 600) == 200


def test_little_is_concluded_from_little() -> None:
    """Five wasted probes are no habit yet."""
    assert after(*[310] * 5).probe_ms(200, 600) == 200
    assert after(*[310] * 5).silence_ms(600, BOUNDS, "unknown") == 600


def test_the_wait_follows_the_pauses_of_the_speaker() -> None:
    """Nearly all pauses stay inside the utterance; who pauses briefly waits less, though never much less."""
    slow = after(*[800, 700, 850, 900, 640, 720, None]).silence_ms(600, BOUNDS, "unknown")
    quick = after(*[210, 230, None] * 5).silence_ms(600, BOUNDS, "unknown")
    assert slow > 900
    assert quick == 450


def test_the_wait_follows_the_words() -> None:
    """Shorter after a whole sentence, longer after an article or a comma."""
    pauses = Pauses()
    waits = [pauses.silence_ms(600, BOUNDS, ending) for ending in ("finished", "unknown", "open")]
    assert waits == [510, 600, 960]


def test_speech_that_rejoins_counts_as_a_pause() -> None:
    """A silence that cut a sentence in two was not an end; the wait grows."""
    pauses = Pauses()
    for _ in range(6):
        pauses.held()
        pauses.rejoined(900)
    assert pauses.silence_ms(600, BOUNDS, "unknown") == 1170


@given(
    st.lists(st.none() | st.floats(1, 5000), max_size=40), st.sampled_from(["finished", "open", "unknown"])
)
def test_nothing_leaves_the_bounds(silences: list[float | None], ending) -> None:
    """The probe lies between its own value and the silence, the wait between its bounds."""
    pauses = after(*silences)
    assert 200 <= pauses.probe_ms(200, 600) <= 600
    assert BOUNDS[0] <= pauses.silence_ms(600, BOUNDS, ending) <= BOUNDS[1]


def _speak(segmenter: Segmenter, speech_ms: int, silence_ms: int) -> list[object]:
    frames = [0.9] * (speech_ms // 32) + [0.05] * (silence_ms // 32)
    return [event for probability in frames for event in segmenter.step(probability)]


def test_a_segmenter_stops_probing_where_it_never_pays() -> None:
    """After a speaker's twenty hesitations of 300 ms such a pause is no longer announced."""
    segmenter = Segmenter(EndpointConfig(silence_ms=600, probe_ms=200))
    early = [isinstance(event, Paused) for _ in range(20) for event in _speak(segmenter, 320, 304)]
    assert any(early)
    assert segmenter.probe_ms == 300
    assert not any(isinstance(event, Paused) for event in _speak(segmenter, 320, 288))


def test_fixed_silence_heeds_no_words() -> None:
    """Without `adaptive` the delay is always the same."""
    segmenter = Segmenter(EndpointConfig(silence_ms=608))
    _speak(segmenter, 960, 320)
    segmenter.advise("finished")
    assert not [event for event in _speak(segmenter, 0, 256) if isinstance(event, Ended)]
    assert [event for event in _speak(segmenter, 0, 64) if isinstance(event, Ended)]


def test_adaptive_silence_heeds_the_words_of_this_pause_only() -> None:
    """Advice ends the wait at once, and is forgotten when speech goes on."""
    segmenter = Segmenter(EndpointConfig(silence_ms=608, adaptive=True))
    _speak(segmenter, 960, 320)
    segmenter.advise("finished")
    _speak(segmenter, 320, 0)
    assert not [event for event in _speak(segmenter, 0, 576) if isinstance(event, Ended)]
    segmenter.advise("finished")
    assert [event for event in _speak(segmenter, 0, 32) if isinstance(event, Ended)]


@given(
    st.lists(
        st.tuples(st.integers(4, 40), st.integers(1, 60), st.sampled_from(["finished", "open", "unknown"])),
        min_size=1,
        max_size=40,
    )
)
def test_no_speaker_and_no_words_move_the_end_out_of_its_bounds(turns: list[tuple[int, int, Ending]]) -> None:
    """Adaptive: whatever was said and paused, an end comes after 350 to 1500 ms of silence, to the frame."""
    segmenter = Segmenter(EndpointConfig(silence_ms=608, adaptive=True))
    for spoken, quiet, ending in turns:
        _speak(segmenter, 32 * spoken, 0)
        for frame in range(1, quiet + 1):
            events = segmenter.step(0.05)
            if any(isinstance(event, Ended) for event in events):
                assert 350 <= 32 * frame <= 1500 + 32
            if any(isinstance(event, Paused) for event in events):
                segmenter.advise(ending)
        assert quiet * 32 <= 1500 + 32 or not segmenter.active
