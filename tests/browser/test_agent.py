"""A real agent that speaks, a real broker, a real browser: words, gauges and answers arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Stage
from tests.browser.results import record
from tests.browser.stage import WebBroker
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_run import WORDS, looped, settings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def box(web_broker: WebBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """`edge-agent run` with a microphone that says one sentence again and again."""
    with AgentProcess(tmp_path_factory.mktemp("box") / "state", *settings(web_broker, looped())) as agent:
        yield agent
        assert agent.process.poll() is None, agent.log


def test_what_a_real_agent_hears_stands_on_the_screen(stage: Stage, box: AgentProcess) -> None:
    """Partials grow into the final."""
    stage.open("?device=box&caption=1")
    stage.js(
        "window.grown = []; new MutationObserver(() => grown.push(document.querySelector('#open').textContent))"
        ".observe(document.querySelector('#open'), {subtree: true, childList: true, characterData: true})"
    )
    stage.until(
        "return [...document.querySelectorAll('#roll p')].some((p) => p.textContent === arguments[0])",
        60,
        WORDS,
    )
    assert stage.js("return document.querySelector('#roll p').lang") == "en"
    assert any(text.startswith("Let us") for text in stage.js("return grown"))


def test_its_row_says_how_it_does_and_it_answers(stage: Stage, box: AgentProcess) -> None:
    """Profile, model, last words; self-test, mute and unmute are done, and seen to be done."""
    stage.open()
    stage.until("return document.querySelector('#rows [data-state=online]')", 40)
    stage.until("return document.querySelector('#rows .c-model').textContent.startsWith('whisper')")
    stage.until("return /^\\d\\d:/.test(document.querySelector('#rows .c-words').textContent)", 40)
    stage.find("#control").click()
    stage.until("return document.querySelector('#rows [data-command=mute]')")
    took = {}
    for kind, label in (("mute", "mute"), ("unmute", "unmute"), ("self_test", "self_test")):
        stage.until("return document.querySelector(`#rows [data-command=${arguments[0]}]`)", 30, kind)
        began = time.monotonic()
        stage.find(f"#rows [data-command={kind}]").click()
        stage.until(
            "return document.querySelector('#rows .answer').textContent.startsWith(`${arguments[0]}: done`)",
            60,
            label,
        )
        took[f"{kind}: from the click to its last answer"] = f"{time.monotonic() - began:.2f} s"
        if kind == "mute":
            stage.until("return document.querySelector('#rows [data-state=muted]')", 30)
    record("agent", "Commands to a real agent", took)


def test_a_killed_agent_is_offline_on_the_page(stage: Stage, web_broker: WebBroker, tmp_path: Path) -> None:
    """Its will comes through."""
    second = (f'mqtt.url="{web_broker.url}"', 'device.id="other"', f'audio.source="{looped()}"')
    stage.open()
    row = "[...document.querySelectorAll('#rows tr')].find((r) => r.deviceId === 'other')"
    with AgentProcess(tmp_path / "other", *second) as agent:
        stage.until(f"return {row}?.querySelector('[data-state=online]')", 60)
        agent.kill()
        stage.until(f"return {row}.querySelector('[data-state=offline]')", 10)
