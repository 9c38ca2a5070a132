"""The table of devices: what it shows, sorting, filter, keyboard, one device, commands."""

from __future__ import annotations

import json
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.mqtt import contract
from tests.browser.conftest import Stage
from tests.browser.stage import health, info, status, words

pytestmark = pytest.mark.browser


@pytest.fixture
def three(stage: Stage) -> Stage:
    """kiosk-2, kiosk-10 and gate, each with its own figures; whoever was there before is gone."""
    for name in ("kiosk-2", "kiosk-10", "gate"):
        for suffix in ("status", "info", "health"):
            stage.pub.raw(f"edge/{name}/up/{suffix}", b"", retain=True)
    stage.pub.say("kiosk-2", "status", status("degraded", "microphone: open but exactly silent"), retain=True)
    stage.pub.say("kiosk-10", "status", status(), retain=True)
    stage.pub.say("gate", "status", status("offline", "connection lost"), retain=True)
    stage.pub.say("kiosk-2", "info", info("sbc"), retain=True)
    stage.pub.say("kiosk-10", "info", info("cpu-avx512-vnni", "whisper-small@aa"), retain=True)
    stage.pub.say("kiosk-2", "health", health(30, 500, 0.42, 71.4, queued=3), retain=True)
    stage.pub.say("kiosk-10", "health", health(12, 44, 0.1, 0.0), retain=True)
    stage.pub.settle()
    stage.open()
    stage.until("return document.querySelectorAll('#rows tr').length === 3")
    stage.until("return document.querySelector('#count').textContent === '3 of 3 devices'")
    return stage


def cells(stage: Stage, device: str) -> list[str]:
    return stage.js(
        "const row = [...document.querySelectorAll('#rows tr')].find((r) => r.deviceId === arguments[0]);"
        "return [...row.cells].map((cell) => cell.textContent)",
        device,
    )


def test_a_row_says_how_a_device_does(three: Stage) -> None:
    """State, profile, model, latencies, real-time factor, temperature, outbox, last words; – is unknown."""
    three.until("return document.querySelectorAll('#rows .c-p95')[0].textContent")
    row = cells(three, "kiosk-2")
    assert row[:9] == [
        "kiosk-2",
        "degraded",
        "sbc",
        "whisper-base",
        "30 ms",
        "500 ms",
        "0.42",
        "71 °C",
        "2 min · 3",
    ]
    assert cells(three, "kiosk-10")[7:10] == ["–", "empty", "–"]
    three.pub.say("kiosk-10", "transcript/final", words("Hello."), qos=1)
    three.until(
        "return [...document.querySelectorAll('td.c-words')].some((c) => /^\\d\\d:\\d\\d:\\d\\d$/.test(c.textContent))"
    )


def test_what_needs_a_person_stands_on_top(three: Stage) -> None:
    """Sorted by state at first, worst first."""
    assert three.devices() == ["gate", "kiosk-2", "kiosk-10"]


def test_columns_sort_both_ways_and_say_so(three: Stage) -> None:
    """A click sorts, another turns it round; numbers in names count; what is unknown comes last either way."""
    name, latency = three.find('th[data-key="device"] button'), three.find('th[data-key="p95"] button')
    name.click()
    assert three.devices() == ["gate", "kiosk-2", "kiosk-10"]
    name.click()
    assert three.devices() == ["kiosk-10", "kiosk-2", "gate"]
    assert three.js("return document.querySelector('th[data-key=device]').ariaSort") == "descending"
    latency.click()
    assert three.devices() == ["kiosk-2", "kiosk-10", "gate"]
    latency.click()
    assert three.devices() == ["kiosk-10", "kiosk-2", "gate"]
    sorts = three.js(
        "return [...document.querySelectorAll('th[aria-sort]')].filter((t) => t.ariaSort !== 'none').length"
    )
    assert sorts == 1


def test_a_changed_figure_moves_its_row(three: Stage) -> None:
    """The order follows the figures, at most once a second."""
    three.find('th[data-key="p95"] button').click()
    three.pub.say("kiosk-10", "health", health(12, 900), retain=True)
    three.until("return document.querySelector('#rows .device').textContent === 'kiosk-10'", 5)


def test_the_filter_looks_at_everything_that_is_said(three: Stage) -> None:
    """Words of name, profile, model, reason; all must be found. A state narrows too."""
    box = three.find("#filter")
    for text, found in (
        ("KIOSK", ["kiosk-2", "kiosk-10"]),
        ("kiosk small", ["kiosk-10"]),
        ("silent", ["kiosk-2"]),
        ("nothing like that", []),
        ("", ["gate", "kiosk-2", "kiosk-10"]),
    ):
        three.js(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", box, text
        )
        three.until("return true")
        time.sleep(0.1)
        assert three.devices() == found
    three.find('.chip[data-chip="degraded"]').click()
    three.until("return document.querySelectorAll('#rows tr:not([hidden])').length === 1")
    assert three.devices() == ["kiosk-2"]
    three.until("return document.querySelector('#count').textContent === '1 of 3 devices shown'")
    three.pub.say("kiosk-2", "status", status(), retain=True)
    three.until("return document.querySelector('#count').textContent === '0 of 3 devices shown'")
    three.find('.chip[data-chip="degraded"]').click()  # it stays, or the choice could not be taken back
    three.until("return document.querySelector('#count').textContent === '3 of 3 devices'")


def test_everything_can_be_done_with_the_keyboard(three: Stage) -> None:
    """/ to the filter, Tab to the columns, Enter sorts, arrows walk the rows, Enter opens, Escape comes back."""
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        for key in keys:
            ActionChains(three.driver).send_keys(key).perform()

    press("/")
    assert three.js("return document.activeElement.id") == "filter"
    three.js("document.querySelector('th[data-key=device] button').focus()")
    press(Keys.ENTER)
    assert three.devices()[0] == "gate"
    three.js("document.querySelector('.device[tabindex=\"0\"]').focus()")
    three.js("document.querySelector('#rows tr .device').focus()")
    press(Keys.ARROW_DOWN)
    assert three.js("return document.activeElement.textContent") == "kiosk-2"
    press(Keys.ENTER)
    three.until("return document.querySelector('#detail-name').textContent === 'kiosk-2'")
    press(Keys.ESCAPE)
    assert three.js("return document.querySelector('#detail').hidden")
    assert three.js("return document.activeElement.textContent") == "kiosk-2"
    assert three.js("return document.querySelectorAll('#rows .device[tabindex=\"0\"]').length") == 1


def test_one_device_has_a_history(three: Stage) -> None:
    """Reasons, a line of its latencies, its last words and gaps."""
    three.find("#rows tr:nth-child(2)").click()
    for n in range(6):
        three.pub.say("kiosk-2", "health", health(30, 100 + 50 * n))
        time.sleep(0.1)
    three.pub.say("kiosk-2", "transcript/final", words("Turn on the crane."), qos=1)
    three.until("return document.querySelector('#detail-words')?.textContent.includes('crane')")
    assert three.text("#detail-reasons li") == "microphone: open but exactly silent"
    figure = three.until(
        "return [...document.querySelectorAll('#detail-history svg')]"
        ".map((s) => [s.ariaLabel, s.querySelector('polyline')?.getAttribute('points')])"
        ".find(([label, points]) => label.startsWith('Latency p95') && points?.split(' ').length >= 7)"
    )
    assert figure[0] == "Latency p95: 100 ms to 500 ms, now 350 ms"
    assert three.text("#detail-facts").startswith("Sitelobby")


def test_a_device_that_is_cleared_at_the_broker_leaves(three: Stage) -> None:
    """An empty retained status removes it, and its row."""
    three.pub.raw("edge/gate/up/status", b"", qos=1, retain=True)
    three.until("return document.querySelectorAll('#rows tr').length === 2")
    assert three.devices() == ["kiosk-2", "kiosk-10"]


class Ear:
    """Hears what is sent to devices."""

    def __init__(self, port: int) -> None:
        self.heard: list[paho.MQTTMessage] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_connect = lambda c, *_: c.subscribe("edge/+/down/#", qos=1)
        self.client.on_message = lambda _c, _u, message: self.heard.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_nothing_is_sent_before_control_is_switched_on(three: Stage) -> None:
    """No button is there to be pressed, and no script of the page sends for one that is made up."""
    ear = Ear(three.broker.port)
    try:
        assert not three.find(".commands").is_displayed()
        assert three.js("return document.querySelectorAll('[data-command]').length") == 0
        three.find("#rows tr:nth-child(2)").click()
        three.js("document.querySelector('#detail-buttons button').click()")
        time.sleep(0.5)
        assert ear.heard == []
    finally:
        ear.close()


def test_a_command_keeps_to_the_contract_and_its_answer_is_seen(three: Stage) -> None:
    """QoS 1, not retained, a valid body; accepted, then done; another device's answer counts for nothing."""
    ear = Ear(three.broker.port)
    try:
        three.find("#control").click()
        three.until("return document.querySelectorAll('[data-command=mute]').length")
        row = "[...document.querySelectorAll('#rows tr')].find((r) => r.deviceId === 'kiosk-10')"
        three.js(f"{row}.querySelector('[data-command=mute]').click()")
        deadline = time.monotonic() + 5
        while not ear.heard:
            assert time.monotonic() < deadline, "no command came"
            time.sleep(0.02)
        message = ear.heard[0]
        assert (message.topic, message.qos, message.retain) == ("edge/kiosk-10/down/command", 1, False)
        contract.validate("command", message.payload)
        sent = json.loads(message.payload)
        assert (sent["type"], sent["args"]) == ("mute", {})

        def answer(device: str, state: str, reason: str = "") -> None:
            body = {"schema": "answer/1", "command_id": sent["command_id"], "state": state}
            three.pub.say(device, "answer", body | {"reason": reason, "result": None}, qos=1)

        answer("kiosk-2", "done")
        answer("kiosk-10", "accepted")
        three.until(f"return {row}.querySelector('.answer').textContent === 'mute: accepted'")
        answer("kiosk-10", "refused", "<b>busy</b>")
        three.until(f"return {row}.querySelector('.answer').textContent === 'mute: refused (<b>busy</b>)'")
        answer("kiosk-10", "done")
        three.pub.settle()
        time.sleep(0.2)
        assert three.js(f"return {row}.querySelector('.answer').textContent").startswith("mute: refused")
    finally:
        ear.close()


def test_a_device_that_is_not_there_does_not_answer_and_that_is_said(three: Stage) -> None:
    """The broker knows of no subscriber: told at once."""
    three.find("#control").click()
    three.until("return document.querySelectorAll('[data-command=mute]').length")
    row = "[...document.querySelectorAll('#rows tr')].find((r) => r.deviceId === 'gate')"
    three.js(f"{row}.querySelector('[data-command=self_test]').click()")
    three.until(f"return {row}.querySelector('.answer').textContent.includes('not connected')")
