"""The page's files: complete, whole, free of foreign addresses; settings, headers, export."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.page import site

SETTINGS = site.Settings(broker="wss://broker.example:8884", prefix="edge", locked=True)
FILES = site.files(SETTINGS)
OURS = {path: body.decode() for path, body in FILES.items() if not path.startswith("vendor/")}


def test_every_file_that_is_named_is_there() -> None:
    """Scripts, style sheet, icon, and each import of each module."""
    named = re.findall(r'(?:src|href)="([^"#?:]+)"', OURS["index.html"])
    for path, text in OURS.items():
        if path.endswith(".js"):
            named += [f"js/{found}" for found in re.findall(r'from "\./([^"]+)"', text)]
    assert len(set(named)) > 15
    assert set(named) <= set(FILES)
    unused = {path for path in OURS if path.startswith("js/")} - set(named)
    assert unused == set()


def test_the_library_is_the_one_that_was_reviewed() -> None:
    """Digest and licence stand beside it."""
    about = FILES["vendor/README.md"].decode()
    digest = hashlib.sha256(FILES["vendor/mqtt.min.js"]).hexdigest()
    assert f"`{digest}`" in about
    assert "MIT License" in FILES["vendor/mqtt.LICENSE.md"].decode()


def test_nothing_is_fetched_from_elsewhere() -> None:
    """No address of another host in what we wrote (but the name space of SVG)."""
    for path, text in OURS.items():
        found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"']*", text))
        assert found <= {"http://www.w3.org/2000/svg", "//broker.example:8884"}, path


def test_no_string_becomes_markup_or_code() -> None:
    """What would turn text into elements or script is not in our files at all."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\b"
        r"|new Function|setHTML|srcdoc|\son[a-z]+=|<style|style="
    )
    for path, text in OURS.items():
        assert not forbidden.search(text), (path, forbidden.search(text))


def test_modules_stay_small() -> None:
    """As in the rest of the house: 400 lines at most."""
    assert max(text.count("\n") for text in OURS.values()) <= 400


def test_the_settings_hold_no_secret() -> None:
    """Broker, prefix, version."""
    body = json.loads(FILES["settings.json"])
    assert set(body) == {"schema", "broker", "prefix", "locked", "version"}
    assert body["broker"] == "wss://broker.example:8884"


def test_the_policy_lets_the_page_reach_its_broker_alone() -> None:
    """And anything by websockets where the reader names the broker."""
    policy = site.headers(SETTINGS)["Content-Security-Policy"]
    assert "connect-src 'self' wss://broker.example:8884;" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    free = site.headers(site.Settings(broker="", prefix="edge", locked=False))["Content-Security-Policy"]
    assert "connect-src 'self' ws: wss:;" in free
    near = site.Settings(broker="ws://127.0.0.1:9001", prefix="edge", locked=True)
    assert "connect-src 'self' ws://127.0.0.1:9001;" in site.headers(near)["Content-Security-Policy"]
    assert "connect-src 'self' ws://*:9001;" in site.headers(near, for_others=True)["Content-Security-Policy"]


def test_the_documents_own_policy_says_the_same() -> None:
    """For servers that add no header."""
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', OURS["index.html"])
    assert found is not None
    header = site.headers(site.Settings(broker="", prefix="edge", locked=False))["Content-Security-Policy"]
    assert {*found[1].split("; "), "frame-ancestors 'none'"} == set(header.split("; "))


@pytest.mark.parametrize(
    "text",
    [
        "http://b:1",
        "mqtt://b:1883",
        "ws://",
        "ws://u:p@b",
        "ws://b:99999",
        "ws://b; script-src *",
        "ws://b\r\nX: y",
        "b:9001",
        "",
    ],
)
def test_what_is_no_broker_is_refused(text: str) -> None:
    """It goes into a header, so nothing odd may be in it."""
    with pytest.raises(UsageError, match="--broker"):
        site.broker_address(text)


@pytest.mark.parametrize(
    ("mqtt", "web"),
    [
        ("mqtt://127.0.0.1:1883", "ws://127.0.0.1:9001"),
        ("mqtts://broker.example:8883", "wss://broker.example:8884"),
        ("mqtt://[::1]:1883", "ws://[::1]:9001"),
    ],
)
def test_where_websockets_are_listened_for_by_habit(mqtt: str, web: str) -> None:
    """Without --broker."""
    assert site.broker_beside(mqtt) == web


def test_an_export_holds_every_file_and_can_be_made_again(tmp_path: Path) -> None:
    """The same bytes that would be served; a second one replaces the first."""
    where = tmp_path / "www/fleet"
    assert site.export(SETTINGS, where) == sorted(FILES)
    assert {path: (where / path).read_bytes() for path in FILES} == FILES
    other = site.Settings(broker="ws://b:1", prefix="lab", locked=True)
    site.export(other, where)
    assert json.loads((where / "settings.json").read_text())["prefix"] == "lab"
    assert not list(where.rglob("*.partial"))


def test_an_export_overwrites_nothing_of_others(tmp_path: Path) -> None:
    """A directory with somebody's index.html is left as it is."""
    (tmp_path / "index.html").write_text("mine")
    (tmp_path / "settings.json").write_text('{"schema": "theirs/1"}')
    with pytest.raises(UsageError, match=r"already holds .*index\.html"):
        site.export(SETTINGS, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "settings.json"]
    assert (tmp_path / "index.html").read_text() == "mine"


def test_an_export_to_an_impossible_place_says_so(tmp_path: Path) -> None:
    """One sentence, no traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        site.export(SETTINGS, tmp_path / "file")
