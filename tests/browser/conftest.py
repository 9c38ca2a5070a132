"""One browser for all tests; a broker and a page server for each file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from edge_agent.page import site
from edge_agent.page.server import PageServer
from tests.browser.stage import Publisher, WebBroker, chromium, complaints


@dataclass
class Stage:
    """A browser that looks at a page, which listens to a broker."""

    driver: Any
    broker: WebBroker
    url: str
    pub: Publisher

    def open(self, query: str = "", *, live: bool = True) -> None:
        """Load the page; wait until it listens."""
        self.driver.get(self.url + query)
        if live:
            self.until("return document.body.dataset.link === 'online'", 15)

    def js(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def until(self, script: str, timeout_s: float = 10.0, *given: object) -> Any:
        """Wait until a script answers something true."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.js(script, *given)):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {script}"
            time.sleep(0.02)
        return found

    def text(self, selector: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def devices(self) -> list[str]:
        """Names of the rows that are shown, from the top."""
        return self.js(
            "return [...document.querySelectorAll('#rows tr:not([hidden]) .device')].map((b) => b.textContent)"
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def web_broker() -> Iterator[WebBroker]:
    with WebBroker() as running:
        yield running


@pytest.fixture(scope="module")
def served(web_broker: WebBroker) -> Iterator[str]:
    settings = site.Settings(broker=web_broker.web_url, prefix="edge", locked=True)
    with PageServer(site.files(settings), site.headers(settings), host="127.0.0.1", port=0) as server:
        yield server.url


@pytest.fixture
def stage(browser: Any, web_broker: WebBroker, served: str) -> Iterator[Stage]:
    """The page of this file's broker; afterwards the console must be free of complaints."""
    complaints(browser)
    with Publisher(web_broker) as pub:
        yield Stage(browser, web_broker, served, pub)
    said = complaints(browser)
    browser.get("about:blank")
    assert said == []


@pytest.fixture
def rule(stage: Stage) -> Callable[..., Any]:
    """Ask a rule of the page: `rule("format", "m.span(90)")`."""
    stage.driver.get(f"{stage.url}icon.svg")  # from where the modules are, without the page

    def ask(module: str, expression: str, *given: object) -> Any:
        script = (
            "const [url, given, done] = [arguments[0], arguments[1], arguments[2]];"
            f"import(url).then((m) => done({{value: (() => {{ {_body(expression)} }})()}}))"
            ".catch((error) => done({error: String(error)}));"
        )
        answer = stage.driver.execute_async_script(script, f"{stage.url}js/{module}.js", list(given))
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    return ask


def _body(expression: str) -> str:
    return expression if "return " in expression else f"return {expression};"
