"""Who may look: logins, refusals, permissions, and the policy that keeps foreign code out."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.page import site
from edge_agent.page.server import PageServer
from tests.browser.conftest import Stage
from tests.browser.stage import Publisher, WebBroker, complaints, status

pytestmark = pytest.mark.browser

ACL = """
user viewer
topic read edge/+/up/#
user device
topic write edge/#
"""


@pytest.fixture(scope="module")
def web_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebBroker]:
    """One that wants passwords, and lets a viewer only read."""
    folder = tmp_path_factory.mktemp("logins")
    logins, acl = folder / "logins", folder / "acl"
    logins.touch(0o600)
    for name in ("viewer", "device"):
        subprocess.run(
            ["mosquitto_passwd", "-b", str(logins), name, f"{name}-secret"], check=True, capture_output=True
        )
    acl.write_text(ACL)
    with WebBroker(config=(f"password_file {logins}", f"acl_file {acl}"), anonymous=False) as running:
        yield running


@pytest.fixture
def stage(browser: Any, web_broker: WebBroker, served: str) -> Iterator[Stage]:
    """As elsewhere, with a publisher that has a login."""
    complaints(browser)
    with Publisher(web_broker, username="device", password="device-secret") as pub:
        stage = Stage(browser, web_broker, served, pub)
        browser.get(served)
        stage.js("sessionStorage.clear()")
        yield stage
    assert complaints(browser) == []


def log_in(stage: Stage, name: str, password: str, *, keep: bool = False) -> None:
    stage.until("return !document.querySelector('#login').hidden")
    for field, value in (("#login-name", name), ("#login-password", password)):
        stage.find(field).clear()
        stage.find(field).send_keys(value)
    if keep:
        stage.find("#login-keep").click()
    stage.find("#login-form button").click()


def test_a_broker_that_wants_a_login_gets_one(stage: Stage) -> None:
    """Asked for, used, and gone from the form."""
    stage.open(live=False)
    stage.until("return document.querySelector('#login-problem').textContent.includes('wants a name')")
    log_in(stage, "viewer", "viewer-secret")
    stage.until("return document.body.dataset.link === 'online'")
    stage.pub.say("box", "status", status(), qos=1)
    stage.until("return document.querySelectorAll('#rows tr').length === 1")
    assert stage.js("return document.querySelector('#login-password').value") == ""
    assert stage.js(
        "return JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie + location.href"
    ).endswith(stage.url)
    assert "viewer-secret" not in stage.js("return JSON.stringify({...sessionStorage, ...localStorage})")


def test_a_wrong_password_is_told_and_not_tried_again(stage: Stage) -> None:
    """The reader is asked once more; the broker is not hammered."""
    stage.open(live=False)
    log_in(stage, "viewer", "wrong")
    stage.until(
        "return document.querySelector('#login-problem').textContent === 'The broker refused this name or password.'"
    )
    tries = stage.broker.log().count("not authorised")
    time.sleep(3)
    assert stage.broker.log().count("not authorised") == tries
    log_in(stage, "viewer", "viewer-secret")
    stage.until("return document.body.dataset.link === 'online'")


def test_a_login_is_remembered_only_when_asked_and_until_signing_out(stage: Stage) -> None:
    """Ticked: survives a reload in this tab. Signed out: gone."""
    stage.open(live=False)
    log_in(stage, "viewer", "viewer-secret", keep=True)
    stage.until("return document.body.dataset.link === 'online'")
    stage.open()
    assert not stage.find("#login").is_displayed()
    stage.find("#sign-out").click()
    stage.until("return document.body.dataset.link === 'refused'")
    assert stage.find("#login").is_displayed()
    assert stage.js("return sessionStorage.length") == 0


def test_a_viewer_who_may_only_read_is_told_so(stage: Stage) -> None:
    """The broker decides: a command of a viewer fails visibly."""
    stage.open(live=False)
    log_in(stage, "viewer", "viewer-secret")
    stage.until("return document.body.dataset.link === 'online'")
    stage.pub.say("box", "status", status(), qos=1)
    stage.until("return document.querySelector('#rows tr')")
    stage.find("#control").click()
    stage.until("return document.querySelector('[data-command=mute]')")
    stage.find("[data-command=mute]").click()
    stage.until(
        "return document.querySelector('#rows .answer').textContent === 'mute: failed (the broker does not let this login command)'"
    )


def test_foreign_script_is_blocked_by_the_policy(stage: Stage) -> None:
    """Inline script, a handler, eval, a string as markup, another host: all refused by the browser itself."""
    stage.open(live=False)
    found = stage.driver.execute_async_script(
        """
        const done = arguments[0], seen = [];
        document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
        const script = document.createElement("script");
        let typed = "";
        try { script.textContent = "window.pwned = 1"; } catch (e) { typed += "script "; }
        document.head.append(script);
        try { document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.pwned = 2'>"); } catch (e) { typed += "html "; }
        try { document.createElement("p").innerHTML = "<b>x</b>"; } catch (e) { typed += "inner "; }
        const link = document.createElement("a"); link.setAttribute("href", "javascript:window.pwned = 3");
        document.body.append(link); link.click(); link.remove();
        const image = new Image(); image.src = "http://127.0.0.2:9/x.png";
        fetch("http://127.0.0.2:9/").catch(() => 0);
        try { new WebSocket("ws://127.0.0.2:9/"); } catch (e) { typed += "socket "; }
        setTimeout(() => done([typed, seen, window.pwned ?? null]), 300);
        """
    )
    typed, seen, pwned = found
    assert pwned is None
    assert {"script", "html", "inner"} <= set(typed.split())
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= set(seen)
    complaints(stage.driver)  # those we have just provoked


def test_inline_script_in_the_served_document_does_not_run(browser: Any) -> None:
    """Were somebody to smuggle it into the file itself: the header alone stops it."""
    settings = site.Settings(broker="", prefix="edge", locked=False)
    files = site.files(settings)
    meta = files["index.html"].index(b'<meta http-equiv="Content-Security-Policy"')
    without = files["index.html"][:meta] + files["index.html"][files["index.html"].index(b"\n", meta) :]
    files["index.html"] = without.replace(b"</body>", b"<script>window.pwned = 1</script></body>")
    with PageServer(files, site.headers(settings), host="127.0.0.1", port=0) as server:
        browser.get(server.url)
        assert browser.execute_script("return window.pwned ?? null") is None
        assert browser.execute_script("return document.querySelector('script:not([src])') !== null")
    assert any("Content Security Policy" in line for line in complaints(browser))


def test_another_broker_in_the_address_is_left_aside(stage: Stage) -> None:
    """A link cannot make the page hand a password to somebody else's broker."""
    stage.open("?broker=ws://127.0.0.2:9", live=False)
    stage.until("return !document.querySelector('#problem').hidden")
    assert "left aside" in stage.text("#problem")
    assert stage.js("return document.querySelector('#login-broker').value") == stage.broker.web_url
    stage.open("?device=a/%2B/b", live=False)
    stage.until("return document.querySelector('#problem').textContent.includes('possible device')")


def test_the_login_works_where_the_reader_names_the_broker(browser: Any, web_broker: WebBroker) -> None:
    """Served with --broker any."""
    settings = site.Settings(broker="", prefix="edge", locked=False)
    with (
        PageServer(site.files(settings), site.headers(settings), host="127.0.0.1", port=0) as server,
        Publisher(web_broker, username="device", password="device-secret") as pub,
    ):
        stage = Stage(browser, web_broker, server.url, pub)
        stage.open(live=False)
        stage.until("return !document.querySelector('#login').hidden")
        stage.find("#login-broker").send_keys("http://nonsense")
        log_in(stage, "viewer", "viewer-secret")
        stage.until("return document.querySelector('#login-problem').textContent.includes('ws://')")
        stage.find("#login-broker").clear()
        stage.find("#login-broker").send_keys(web_broker.web_url)
        log_in(stage, "viewer", "viewer-secret")
        stage.until("return document.body.dataset.link === 'online'")
    complaints(browser)


def test_two_screens_with_one_login_do_not_fight_for_long(browser: Any, tmp_path: Path) -> None:
    """Where the broker allows one connection per login: each waits longer each time, and says why it may be."""
    logins = tmp_path / "logins"
    logins.touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(logins), "viewer", "s"], check=True, capture_output=True)
    with WebBroker(
        config=(f"password_file {logins}",), listener=("use_username_as_clientid true",), anonymous=False
    ) as broker:
        settings = site.Settings(broker=broker.web_url, prefix="edge", locked=True)
        with (
            PageServer(site.files(settings), site.headers(settings), host="127.0.0.1", port=0) as server,
            Publisher(broker, username="viewer", password="s") as pub,
        ):
            stage = Stage(browser, broker, server.url, pub)
            first = browser.current_window_handle
            for _ in range(2):
                stage.open(live=False)
                log_in(stage, "viewer", "s")
                stage.until("return document.body.dataset.link === 'online'")
                browser.switch_to.new_window("tab")
            browser.close()
            browser.switch_to.window(first)
            stage.until("return document.querySelector('#banner').textContent.includes('same login')", 60)
            connects = broker.log().count("New client connected")
            time.sleep(5)
            assert broker.log().count("New client connected") - connects <= 4
            for handle in browser.window_handles[1:]:
                browser.switch_to.window(handle)
                browser.close()
            browser.switch_to.window(first)
            stage.until("return document.body.dataset.link === 'online'", 30)
    complaints(browser)
