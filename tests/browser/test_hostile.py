"""Whoever may publish may lie: what a subscriber shows is text, and nothing that comes breaks the page."""

from __future__ import annotations

import json
import random

import pytest

from tests.browser.conftest import Stage
from tests.browser.stage import health, info, status, words

pytestmark = pytest.mark.browser

MARKUP = [
    '<img src=x onerror="window.pwned=1">',
    "<script>window.pwned=1</script>",
    '"><svg onload=window.pwned=1>',
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "&lt;b&gt;",
]
SANE = "return window.pwned === undefined && !document.querySelector('main img, #captions img, #captions script, main script, main b > b, [onload], [onerror]')"


def test_markup_in_captions_stays_text(stage: Stage) -> None:
    """Every character of it is seen, nothing of it is done."""
    stage.open("?device=a&caption=1")
    for text in MARKUP:
        stage.pub.say("a", "transcript/partial", words("", kind="partial", stable=text, tail=text))
        stage.pub.say("a", "transcript/final", words(text, language=text), qos=1)
    stage.until(f"return document.querySelectorAll('#roll p').length === {len(MARKUP)}")
    assert stage.js("return [...document.querySelectorAll('#roll p')].map((p) => p.textContent)") == MARKUP
    assert stage.js(SANE)


def test_markup_in_everything_a_device_may_say_stays_text(stage: Stage) -> None:
    """Names, reasons, profiles, models, texts, causes, answers."""
    stage.open()
    stage.find("#control").click()
    for n, text in enumerate(MARKUP):
        device = text.replace("/", "∕").replace("#", "♯").replace("+", "＋")  # what a topic cannot hold
        stage.pub.say(device, "status", status("degraded", text))
        facts = info(text, text) | {"profile_reasons": [text], "engine_notes": [text], "engine": text}
        stage.pub.say(device, "info", facts | {"versions": {"edge-agent": text}, "hardware": {"board": text}})
        stage.pub.say(device, "transcript/final", words(text, site=text, id=f"m{n}"), qos=1)
        gap = {"schema": "gap/1", "id": f"g{n}", "seq": 1, "start": text, "duration_ms": 1, "cause": text}
        stage.pub.say(device, "gap", gap, qos=1)
        stage.pub.say(
            device, "answer", {"command_id": text, "state": "done", "reason": text, "result": {text: text}}
        )
    stage.until(f"return document.querySelectorAll('#rows tr').length >= {len(MARKUP)}")
    for n in range(len(MARKUP)):
        stage.js("document.querySelectorAll('#rows tr')[arguments[0]].click()", n)
        stage.until("return document.querySelector('#detail-words').textContent !== ''")
        assert stage.js(SANE)
    assert set(stage.devices()) >= {MARKUP[0], MARKUP[5]}


def test_names_cannot_be_made_to_look_like_others(stage: Stage) -> None:
    """Characters that reorder or hide are written out; each name stays within its own cell."""
    stage.open()
    for device in ("kiosk-\u202e1234", "kiosk-1\u200b234", "x" * 200, "ก็็็็็็็็็็็็็็็็็็็็"):
        stage.pub.say(device, "status", status())
    stage.until(
        "return [...document.querySelectorAll('#rows .device')].some((b) => b.textContent.startsWith('xxx'))"
    )
    names = stage.devices()
    assert "kiosk-⟨U+202E⟩1234" in names
    assert "kiosk-1⟨U+200B⟩234" in names
    assert max(map(len, names)) <= 70
    outside = stage.js(
        "return [...document.querySelectorAll('#rows tr')].filter((r) => r.offsetHeight > 41"
        " || r.cells[0].getBoundingClientRect().right > r.cells[1].getBoundingClientRect().left).length"
    )
    assert outside == 0


def test_overrides_of_direction_do_not_leave_their_line(stage: Stage) -> None:
    """A right-to-left override in a caption is shown as a replacement character; the next line is untouched."""
    stage.open("?device=a&caption=1")
    stage.pub.say("a", "transcript/final", words("left \u202etfel\u2067 right"), qos=1)
    stage.pub.say("a", "transcript/final", words("next"), qos=1)
    stage.until("return document.querySelectorAll('#roll p').length === 2")
    assert stage.text("#roll p") == "left \ufffdtfel\ufffd right"


def test_sixty_four_kilobytes_of_text_break_nothing(stage: Stage) -> None:
    """Cut with a sign of it; the next words are seen."""
    stage.open("?device=a&caption=1")
    for text in ("x" * 65_536, "字" * 21_845, "😀" * 16_384, "word " * 13_107):
        stage.pub.say("a", "transcript/final", words(text, stable=""), qos=1)
    stage.pub.say("a", "transcript/final", words("The end."), qos=1)
    # mosquitto 2.0.11 sends long messages slowly over websockets: these take seconds.
    stage.until("return [...document.querySelectorAll('#roll p')].at(-1)?.textContent === 'The end.'", 60)
    assert stage.js("return document.querySelectorAll('#roll p').length") == 5
    lengths = stage.js("return [...document.querySelectorAll('#roll p')].map((p) => p.textContent.length)")
    assert max(lengths) <= 4001
    assert stage.js(
        "return [...document.querySelectorAll('#roll p')].at(-1).getBoundingClientRect().bottom <= innerHeight"
    )
    assert stage.js("return document.documentElement.scrollWidth <= innerWidth")


def nonsense(rng: random.Random) -> bytes:
    """Bodies that are no JSON, JSON of the wrong shape, or right bodies with one wrong field."""
    odd = [None, True, -1, 1e308, [], {}, [[]], "", "x" * 1000, {"a": {"b": []}}, ["<b>"] * 50]
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return json.dumps(rng.choice(odd)).encode()
    if kind == 2:
        return b"[" * rng.randrange(20_000)
    body = rng.choice([status(), info(), health(), words("hm"), words("hm", kind="partial")])
    body = json.loads(json.dumps(body))
    place = body
    for _ in range(rng.randrange(1, 3)):
        key = rng.choice(list(place))
        if not (isinstance(place[key], dict) and place[key]):
            break
        place = place[key]
    place[rng.choice(list(place))] = rng.choice(odd)
    return json.dumps(body).encode()


@pytest.mark.parametrize("query", ["", "?device=a&caption=1"])
def test_nonsense_on_every_topic_breaks_nothing(stage: Stage, query: str) -> None:
    """Three thousand of them; the page stays connected, complains of nothing, and shows what is sane."""
    rng = random.Random(20)
    suffixes = [
        "status",
        "info",
        "health",
        "transcript/final",
        "transcript/partial",
        "gap",
        "answer",
        "nothing",
        "a/b",
    ]
    stage.open(query)
    if not query:
        stage.pub.say("a", "status", status())
        stage.until("return document.querySelector('#rows tr')")
        stage.find("#rows tr").click()
    for _ in range(3000):
        stage.pub.raw(
            f"edge/{rng.choice(['a', 'b', ' ', '__proto__', 'constructor'])}/up/{rng.choice(suffixes)}",
            nonsense(rng),
        )
    stage.pub.settle()
    stage.pub.say("a", "transcript/final", words("Still here."), qos=1)
    where = "#roll" if query else "#detail-words"
    stage.until(f"return document.querySelector('{where}').textContent.includes('Still here.')", 20)
    assert stage.js("return document.body.dataset.link") == "online"
    assert stage.js("return ({}).id === undefined && Object.prototype.state === undefined")


def test_more_devices_than_a_page_holds_are_counted_not_kept(stage: Stage, rule) -> None:
    """A flood of made-up names costs no memory beyond the limit."""
    kept = rule(
        "fleet",
        "const fleet = new m.Fleet({devices: 10, points: 3, transcripts: 3});"
        "const body = new TextEncoder().encode(given[0]);"
        "for (let i = 0; i < 50; i += 1) fleet.apply(`d${i}`, 'status', body, i);"
        "return [fleet.devices.size, fleet.turnedAway]",
        json.dumps(status()),
    )
    assert kept == [10, 40]
