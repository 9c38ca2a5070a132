"""The page's rules by themselves, run by the engine that will run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser
Rule = Callable[..., Any]


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("m.milliseconds(null)", "–"),
        ("m.milliseconds(421.4)", "421 ms"),
        ("m.milliseconds(12345)", "12.3 s"),
        ("m.factor(0.1234)", "0.12"),
        ("m.celsius(71.4)", "71 °C"),
        ("m.span(119.4)", "119 s"),
        ("m.span(120)", "2 min"),
        ("m.span(7200)", "2 h"),
        ("m.span(172800)", "2 d"),
        ("m.span(-5)", "0 s"),
        ("m.outbox(0, 12)", "empty"),
        ("m.outbox(3, 95)", "95 s · 3"),
        ("m.outbox(null, null)", "–"),
        ("m.clock(null, 0)", "–"),
        ("m.shortModel('whisper-base@d01c')", "whisper-base"),
    ],
)
def test_values_as_people_read_them(rule: Rule, expression: str, shown: str) -> None:
    assert rule("format", expression) == shown


def test_a_time_of_another_day_has_its_date(rule: Rule) -> None:
    said = rule("format", "m.clock(new Date(2026, 0, 2, 3, 4, 5).getTime(), new Date(2026, 0, 3).getTime())")
    assert said == "2026-01-02 03:04"
    assert (
        rule("format", "m.clock(new Date(2026, 0, 3, 3, 4, 5).getTime(), new Date(2026, 0, 3).getTime())")
        == "03:04:05"
    )


def test_topics_of_others_are_not_ours(rule: Rule) -> None:
    parse = "m.parse(given[0], given[1])"
    assert rule("topics", parse, "edge", "edge/a/up/transcript/final") == {
        "device": "a",
        "suffix": "transcript/final",
    }
    assert rule("topics", parse, "a/b", "a/b/box/up/status") == {"device": "box", "suffix": "status"}
    for topic in (
        "edge/a/down/command",
        "edge//up/status",
        "edge/a/b/up/status",
        "edge/a/up/other",
        "other/a/up/status",
        "edge",
    ):
        assert rule("topics", parse, "edge", topic) is None, topic
    assert [
        rule("topics", "m.isDevice(given[0])", name) for name in ("kiosk-1", "", "a/b", "+", "x" * 65)
    ] == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_half_a_character_is_never_shown(rule: Rule) -> None:
    assert rule("text", "m.cut('ab😀cd', 3)") == "ab…"
    assert rule("text", "m.cut('ab😀cd', 4)") == "ab😀…"
    assert rule("text", "m.cut('ab', 4)") == "ab"


def test_marks_that_speech_needs_are_kept(rule: Rule) -> None:
    """Zero-width joiners shape Persian and Hindi; only overrides and controls go."""
    assert rule("text", "m.spoken(given[0])", "می‌خواهم \n क्‍ष") == "می‌خواهم क्‍ष"
    assert rule("text", "m.name(given[0])", "a‌b") == "a⟨U+200C⟩b"


def test_waiting_grows_and_is_spread(rule: Rule) -> None:
    assert rule("backoff", "[0, 1, 2, 5, 50].map((n) => m.delayMs(n, 1))") == [
        500,
        1000,
        2000,
        15_000,
        15_000,
    ]
    assert rule("backoff", "m.delayMs(50, 0)") == 7_500


def test_the_newest_of_a_topic_is_enough_but_no_final_is_dropped(rule: Rule) -> None:
    taken = rule(
        "inbox",
        "const box = new m.Inbox(6), got = [];"
        "for (const [t, p] of given[0]) box.put(t, p);"
        "const left = box.drain((t, p) => got.push(p), () => false);"
        "return [got, box.skipped, left]",
        [
            ["edge/a/up/health", 1],
            ["edge/a/up/transcript/final", 2],
            ["edge/a/up/health", 3],
            ["edge/a/up/transcript/final", 4],
            ["edge/a/up/transcript/partial", 5],
            ["edge/a/up/transcript/final", 6],
            ["edge/a/up/gap", 7],
            ["edge/a/up/gap", 8],
        ],
    )
    assert taken == [[2, 3, 4, 5, 6, 7], 1, False]
    sliced = rule(
        "inbox",
        "const box = new m.Inbox(), got = []; for (let i = 0; i < 5; i += 1) box.put('edge/a/up/gap', i);"
        "const first = box.drain((t, p) => got.push(p), () => got.length === 2);"
        "const second = box.drain((t, p) => got.push(p), () => false); return [first, second, got]",
    )
    assert sliced == [True, False, [0, 1, 2, 3, 4]]


LINES = "return [c.ended.map((l) => l.text + (l.missed ? `(-${l.missed})` : '')), [...c.open.values()].map((l) => l.text)]"


def captions(rule: Rule, script: str, keep: int = 30) -> Any:
    given = (
        f"const c = new m.Captions({keep});"
        "const f = (text, seq, start, id) => c.final('a', {id: id ?? text, seq, start, channel: 0, text, language: ''});"
        "const p = (text, id, rev, channel = 0, at = 0) => c.partial('a', {id, rev, channel, text, stable: '', tail: text}, at);"
    )
    return rule("captions", given + script + ";" + LINES)


def test_lines_stand_in_the_order_in_which_they_were_said(rule: Rule) -> None:
    """Live finals come before a backlog; holes are counted until they are filled."""
    assert captions(rule, "f('one', 1, 10); f('four', 4, 40)") == [["one", "four(-2)"], []]
    assert captions(rule, "f('one', 1, 10); f('four', 4, 40); f('two', 2, 20); f('three', 3, 30)")[0] == [
        "one",
        "two",
        "three",
        "four",
    ]
    assert captions(rule, "f('x', 900, 10); f('y', 1, 20); f('z', 2, 30)")[0] == [
        "x",
        "y",
        "z",
    ]  # counts anew
    assert captions(rule, "f('x', 1, 10); f('x', 1, 10)")[0] == ["x"]


def test_channels_have_an_open_line_each(rule: Rule) -> None:
    assert captions(rule, "p('left', 'l', 1, 0); p('right', 'r', 1, 1); p('left!', 'l', 2, 0)")[1] == [
        "right",
        "left!",
    ]
    assert captions(rule, "p('left', 'l', 1, 0); p('right', 'r', 1, 1); f('Left.', 1, 1, 'l')") == [
        ["Left."],
        ["right"],
    ]
    assert captions(rule, "p('old', 'l', 1, 0, 0); p('new', 'r', 1, 1, 9000); c.expire(16000)")[1] == ["new"]
    assert captions(rule, "p('b', 'x', 2); p('a', 'x', 1)")[1] == ["b"]


def test_memory_is_bounded(rule: Rule) -> None:
    sizes = rule(
        "captions",
        "const c = new m.Captions(5); for (let i = 0; i < 3000; i += 1) {"
        "c.final(`d${i}`, {id: `${i}`, seq: i, start: i, channel: i, text: 'x', language: ''}); }"
        "return [c.ended.length, c.done.size, c.channels.size]",
    )
    assert sizes == [5, 500, 500]


def test_commands_that_nobody_answers_say_so(rule: Rule) -> None:
    told = rule(
        "commands",
        "const c = new m.Commands(); c.sent('1', 'a', 'mute', 0); c.sent('2', 'a', 'self_test', 0);"
        "c.answered('a', {id: '2', state: 'running', reason: '', result: ''}, 5);"
        "const early = c.overdue(31000).length, late = c.overdue(33000).map((x) => x.state);"
        "c.answered('a', {id: '1', state: 'done', reason: '', result: ''}, 34000);"
        "return [early, late, c.of('a').map((x) => x.state), c.overdue(121000).map((x) => x.detail)]",
    )
    assert told == [0, ["no answer"], ["running", "done"], ['it said "running" and no more']]


def test_ids_are_uuids_without_the_browsers_help(rule: Rule) -> None:
    """crypto.randomUUID is missing on pages without TLS."""
    assert rule("commands", "m.uuid(new Uint8Array(16).fill(255))") == "ffffffff-ffff-4fff-bfff-ffffffffffff"


LOCATION = {"search": "", "hostname": "page.example", "protocol": "http:"}


@pytest.mark.parametrize(
    ("given", "location", "broker", "problem"),
    [
        ({"broker": "ws://b:9001"}, {}, "ws://b:9001", ""),
        ({"broker": "ws://127.0.0.1:9001"}, {}, "ws://page.example:9001", ""),
        ({"broker": "ws://127.0.0.1:9001"}, {"hostname": "localhost"}, "ws://127.0.0.1:9001", ""),
        ({"broker": "ws://b:9001"}, {"search": "?broker=wss://c:1/mqtt"}, "wss://c:1/mqtt", ""),
        (
            {"broker": "ws://b:9001", "locked": True},
            {"search": "?broker=wss://c:1"},
            "ws://b:9001",
            "left aside",
        ),
        ({"broker": "ws://b:9001", "locked": True}, {"search": "?broker=ws://b:9001"}, "ws://b:9001", ""),
        ({}, {"search": "?broker=http://c"}, "", "names no broker"),
        ({}, {"search": "?broker=ws://u:p@c"}, "", "names no broker"),
        ({"broker": "ws://b:9001"}, {"protocol": "https:"}, "ws://b:9001", "wss://"),
        ([], {}, "", ""),
        ({"broker": 7, "prefix": "a//b"}, {}, "", ""),
    ],
)
def test_where_the_page_connects(
    rule: Rule, given: object, location: dict, broker: str, problem: str
) -> None:
    found = rule("settings", "m.read(given[0], given[1])", given, LOCATION | location)
    assert (found["broker"], found["prefix"]) == (broker, "edge")
    assert problem in found["problem"]
    assert problem or not found["problem"]


def test_gauges_before_the_first_final_mean_nothing(rule: Rule) -> None:
    """Zeros of a device that has not spoken are shown as unknown."""
    body = {
        "schema": "health/1",
        "recognition": {"finals": 0, "latency_p95_ms": 0.0},
        "load": {"temperature_c": 0.0},
    }
    read = "m.health(m.decode(new TextEncoder().encode(given[0])))"
    found = rule("messages", read, json.dumps(body))
    assert (found["p95"], found["temperature"], found["outboxAge"]) == (None, None, None)


def test_the_window_of_rows_covers_what_is_seen(rule: Rule) -> None:
    assert rule("columns", "m.windowOf(0, 400, 40, 1000)") == [0, 18]
    assert rule("columns", "m.windowOf(4000, 400, 40, 1000)") == [92, 118]
    assert rule("columns", "m.windowOf(39600, 400, 40, 1000)") == [982, 1000]
    assert rule("columns", "m.windowOf(99999, 400, 40, 5)") == [0, 5]
    assert rule("columns", "m.windowOf(0, 400, 40, 0)") == [0, 0]
