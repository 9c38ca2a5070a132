"""The stage of the browser tests: Chromium without a screen, a broker with websockets, a publisher."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.clock import utc_text
from edge_agent.mqtt.private_broker import PrivateBroker, _answers, _free_port
from tests.broker import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")


class WebBroker(PrivateBroker):
    """A private broker that browsers reach too."""

    def __init__(
        self, *, config: Sequence[str] = (), listener: Sequence[str] = (), anonymous: bool = True
    ) -> None:
        self.web_port = _free_port()
        super().__init__(
            config=config,
            anonymous=anonymous,
            listener=(f"listener {self.web_port} 127.0.0.1", "protocol websockets", *listener),
        )

    def start(self) -> None:
        """Also wait for the listener of the browsers, which comes up last."""
        super().start()
        wait_until(lambda: _answers(self.web_port), 10, "the websocket listener")

    @property
    def web_url(self) -> str:
        """For the page."""
        return f"ws://127.0.0.1:{self.web_port}"


@contextmanager
def chromium(*, width: int = 1400, height: int = 900) -> Iterator[Any]:
    """A browser of its own; console errors are kept for `complaints`."""
    selenium = pytest.importorskip("selenium", reason="the extra `browser` is not installed")
    assert selenium
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("chromium and chromedriver are not here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=CHROMEDRIVER))
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """What the browser wrote to its console since the last call, but for what tests bring about themselves:
    connections to a broker that they ended, and the picture it looks for beside a file that is no page.
    """
    lines = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    expected = ("WebSocket connection to", "ERR_CONNECTION", "favicon.ico")
    return [line for line in lines if not any(words in line for words in expected)]


class Publisher:
    """Says what devices would say."""

    def __init__(self, broker: PrivateBroker, **login: str) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if login:
            self._client.username_pw_set(login["username"], login["password"])
        self._client.reconnect_delay_set(1, 1)
        self._client.max_queued_messages_set(0)
        self._client.connect("127.0.0.1", broker.port)

    def __enter__(self) -> Publisher:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def raw(self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def say(self, device: str, suffix: str, body: dict, *, qos: int = 0, retain: bool = False) -> None:
        self.raw(f"edge/{device}/up/{suffix}", json.dumps(body, ensure_ascii=False), qos=qos, retain=retain)

    def settle(self) -> None:
        """Until the broker has all of it."""
        self._client.publish("settle", b"", qos=1).wait_for_publish(20)


def status(state: str = "online", *reasons: str) -> dict:
    return {
        "schema": "status/1",
        "state": state,
        "since": now_text(),
        "reasons": list(reasons),
        "boot_id": "b",
    }


def info(profile: str = "cpu-avx2", model: str = "whisper-base@d01c3014881c") -> dict:
    return {
        "schema": "info/1",
        "hardware": {"cpu_model": "Intel(R) N100", "board": ""},
        "profile": profile,
        "profile_reasons": ["AVX2, 4 cores"],
        "engine": "ctranslate2/int8",
        "engine_notes": [],
        "model": model,
        "versions": {"edge-agent": "0.1.0"},
        "capabilities": {},
    }


def health(
    p50: float = 30.0, p95: float = 60.0, rtf: float = 0.12, temperature: float = 51.0, queued: int = 0
) -> dict:
    return {
        "schema": "health/1",
        "uptime_s": 86_400,
        "rss_mb": 311.0,
        "recognition": {
            "finals": 912,
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "real_time_factor": rtf,
        },
        "load": {"step": "normal", "temperature_c": temperature},
        "outbox": {"queued": queued, "oldest_queued_age_s": 40.0 * queued},
    }


_counter = 0


def words(text: str, *, kind: str = "final", language: str = "en", **other: object) -> dict:
    """A transcript; each final has an id and a number of its own unless given."""
    global _counter
    _counter += 1
    body = {
        "schema": "transcript/1",
        "id": f"0198-{_counter:06}",
        "rev": 1,
        "kind": kind,
        "text": text,
        "stable": text if kind == "final" else "",
        "tail": "" if kind == "final" else text,
        "language": language,
        "language_probability": 1.0,
        "confidence": 0.9,
        "words": [],
        "start": now_text(),
        "duration_ms": 900,
        "clock_synced": True,
        "channel": 0,
        "device_id": "box",
        "site": "lobby",
        "profile": "cpu-avx2",
        "engine": "ctranslate2/int8",
        "model": "whisper-base@d01c3014881c",
        "flags": [],
    }
    if kind == "final":
        body |= {"seq": _counter, "latency_ms": {"endpoint": 400, "queue": 1, "decode": 20, "total": 421}}
    return body | other


def now_text() -> str:
    return utc_text(time.time_ns() // 1_000_000)


def screenshot(driver: Any, path: Path | str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert driver.save_screenshot(str(path))
