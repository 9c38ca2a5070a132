"""What the listener makes of messages: rules for the good ones, nothing at all for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.screen.spans import Line, line, line_width, written
from edge_agent.screen.terminal import Terminal
from edge_agent.verbs.listen_lines import entry_lines, plain, region
from edge_agent.verbs.listen_state import Entry, ListenState

SUFFIXES = ["status", "info", "health", "transcript/final", "transcript/partial", "gap", "event", "nonsense"]
FIELDS = [
    "id",
    "seq",
    "rev",
    "kind",
    "text",
    "stable",
    "tail",
    "channel",
    "start",
    "since",
    "at",
    "type",
    "state",
    "reasons",
    "confidence",
    "latency_ms",
    "flags",
    "duration_ms",
    "cause",
    "dropped",
    "audio",
    "wake",
    "boot_id",
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**301)
    | st.floats()
    | st.text(max_size=60)
    | st.sampled_from(["online", "offline", "2026-11-20T13:00:00.120Z", "\x1b[2J\n\u202e", "你好" * 50]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["total", "rms_dbfs", "peak_dbfs", "channels", "word"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c\u202ed", "e" * 200]),
        st.sampled_from(SUFFIXES),
        st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=8) | ANYTHING,
        st.booleans(),
    ),
    max_size=12,
)
TERMINALS = st.builds(
    Terminal,
    is_tty=st.just(True),
    columns=st.integers(10, 120),
    rows=st.integers(3, 40),
    colour=st.booleans(),
    movable=st.booleans(),
    charset=st.sampled_from(["utf-8", "ascii"]),
)


def said(state: ListenState, suffix: str, body: Any, now_s: float = 0.0, device: str = "dev") -> list[Entry]:
    return state.receive(f"edge/{device}/up/{suffix}", body, retained=False, now_s=now_s)


def shown_width(one: Line, terminal: Terminal) -> int:
    """Of what is written, escapes for other character sets included."""
    plainly = replace(terminal, movable=False)
    return line_width(line(written(one, plainly).replace("\u200e", "")))


@given(MESSAGES, TERMINALS, st.booleans())
def test_any_payload_is_taken_or_ignored(
    messages: list[tuple[str, str, Any, bool]], terminal: Terminal, lost: bool
) -> None:
    """Never an error; lines fit the terminal, and the region leaves room for what is told above it."""
    state = ListenState("edge", terminal.charset)
    for now, (device, suffix, body, retained) in enumerate(messages):
        topic = f"edge/{device}/up/{suffix}"
        for entry in state.receive(topic, body, retained=retained, now_s=float(now)):
            assert len(plain(entry).splitlines()) <= 1
            for one in entry_lines(entry, terminal, "2026-11-20"):
                assert shown_width(one, terminal) < terminal.columns
    if lost:
        state.link_lost("the cable", 100.0)
    state.tick(101.0)
    lines = region(state, terminal, 101.0, "mqtt://broker")
    assert 1 <= len(lines) <= max(1, terminal.rows - 2)
    assert all(shown_width(one, terminal) < terminal.columns for one in lines)
    for one in lines:
        assert all(span.text.isprintable() or "\u200d" in span.text or "\u200c" in span.text for span in one)


def test_a_late_partial_does_not_bring_back_what_is_final() -> None:
    """QoS 0 and QoS 1 may overtake each other."""
    state = ListenState("edge")
    said(state, "transcript/final", {"id": "u", "text": "done"})
    said(state, "transcript/partial", {"id": "u", "stable": "do"})
    assert not state.devices["dev"].partials


def test_an_older_partial_does_not_replace_a_newer_one() -> None:
    """`rev` counts the bodies of one utterance."""
    state = ListenState("edge")
    said(state, "transcript/partial", {"id": "u", "rev": 2, "stable": "turn on"})
    said(state, "transcript/partial", {"id": "u", "rev": 1, "stable": "turn"})
    assert state.devices["dev"].partials[0].stable == "turn on"


@pytest.mark.parametrize(
    ("suffix", "body"),
    [
        ("status", {"state": "offline"}),
        ("gap", {"id": "u", "cause": "overload"}),
        ("transcript/final", {"id": "u", "text": "turn on"}),
    ],
)
def test_what_ends_a_partial(suffix: str, body: dict[str, object]) -> None:
    """Its final, the gap with its id, the device's end."""
    state = ListenState("edge")
    said(state, "transcript/partial", {"id": "u", "stable": "turn"})
    said(state, suffix, body)
    assert not state.devices["dev"].partials


def test_what_grows_old_is_forgotten() -> None:
    """A partial without its final after half a minute, gauges after three of their intervals."""
    state = ListenState("edge")
    said(state, "transcript/partial", {"id": "u", "stable": "turn"})
    said(state, "health", {"audio": {"rms_dbfs": -20, "peak_dbfs": -9}})
    state.tick(29.0)
    assert state.devices["dev"].partials
    state.tick(31.0)
    assert not state.devices["dev"].partials
    state.tick(181.0)
    assert not state.devices["dev"].levels


def test_late_is_what_is_numbered_below_and_older() -> None:
    """A device set up anew counts from one again, and is not late for it."""
    state = ListenState("edge")
    one = {"text": "x", "seq": 9, "start": "2026-11-20T13:00:00.000Z"}
    assert said(state, "transcript/final", one)[0].facts == ()
    late = {**one, "seq": 3, "start": "2026-11-20T12:00:00.000Z"}
    assert said(state, "transcript/final", late)[0].facts == ("late or replayed",)
    anew = {**one, "seq": 1, "start": "2026-11-20T14:00:00.000Z"}
    assert said(state, "transcript/final", anew)[0].facts == ()


def test_a_status_told_again_is_no_news() -> None:
    """After a reconnect the broker sends what it kept."""
    state = ListenState("edge")
    body = {"state": "online", "since": "2026-11-20T13:00:00.000Z", "boot_id": "b", "reasons": []}
    assert len(said(state, "status", body)) == 1
    assert said(state, "status", body) == []


@pytest.mark.parametrize(("retained", "time"), [(False, "15:00:00"), (True, "--:--:--")])
def test_offline_is_told_with_the_time_it_is_heard(retained: bool, time: str) -> None:
    """The will's `since` is when the lost connection was made, which may be days ago."""
    body = {"state": "offline", "since": "2026-11-20T13:00:00.000Z", "reasons": ["connection lost"]}
    state = ListenState("edge")
    now = ("2026-11-22", "15:00:00")
    [entry] = state.receive("edge/dev/up/status", body, retained=retained, now_s=0.0, now=now)
    assert plain(entry) == f"{time} dev is offline: connection lost"


def test_how_things_were_before_we_came_is_no_news() -> None:
    """But a change while the broker was away is."""
    state = ListenState("edge")

    def retained(what: str) -> list[bool]:
        told = state.receive("edge/dev/up/status", {"state": what}, retained=True, now_s=0.0)
        return [entry.news for entry in told]

    assert retained("online") == [False]
    assert retained("offline") == [True]


def test_memory_is_bounded() -> None:
    """Whoever may publish under many names cannot fill ours."""
    state = ListenState("edge")
    for number in range(3000):
        said(state, "transcript/partial", {"id": str(number), "stable": "x" * 5000}, device=f"d{number}")
    assert len(state.devices) == 1000
    assert "d2999" in state.devices


def test_each_channel_has_its_level_and_words() -> None:
    """Four microphones on one device."""
    state = ListenState("edge")
    gauges = [{"rms_dbfs": -20 - n, "peak_dbfs": -9} for n in range(4)]
    said(state, "health", {"audio": {**gauges[0], "channels": gauges}})
    said(state, "transcript/partial", {"id": "u", "channel": 2, "stable": "turn", "tail": " on"})
    shown = region(state, Terminal(is_tty=True, columns=80, rows=24, movable=True), 0.0, "mqtt://b")
    lines = ["".join(span.text for span in one) for one in shown]
    assert [line[:4] for line in lines[2:6]] == ["  0 ", "  1 ", "  2 ", "    "]
    assert "-22 dBFS" in lines[4]
    assert lines[5] == "    ▸ turn [on]"


def test_a_long_partial_shows_its_end() -> None:
    """Three lines, and a sign that there is more before them."""
    state = ListenState("edge")
    words = " ".join(f"word{n}" for n in range(100))
    said(state, "transcript/partial", {"id": "u", "stable": words, "tail": " and more"})
    shown = region(state, Terminal(is_tty=True, columns=80, rows=24, movable=True), 0.0, "mqtt://b")
    lines = ["".join(span.text for span in one) for one in shown]
    assert lines[2].startswith("  ▸…word")
    assert lines[4].endswith("word99 [and more]")
    assert len(lines) == 6
