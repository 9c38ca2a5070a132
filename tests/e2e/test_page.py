"""The verb `page`, as its users run it, and the page in the wheel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agent_process import COMMAND, edge_agent

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """`edge-agent page --json` and what it said first."""
    process = subprocess.Popen(
        [*COMMAND, "page", "--json", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline() or "{}")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(tmp_path: Path, how: signal.Signals) -> None:
    """The configured broker is what the page is told; the end is clean."""
    config = tmp_path / "agent.toml"
    config.write_text('[mqtt]\nurl = "mqtts://broker.example:8883"\nprefix = "lab"\n')
    with serving("--config", str(config)) as (process, said):
        assert said["url"].startswith("http://127.0.0.1:")
        settings = json.loads(get(said["url"] + "settings.json"))
        assert (settings["broker"], settings["prefix"]) == ("wss://broker.example:8884", "lab")
        assert b"Edge speech fleet" in get(said["url"] + "?device=a&caption=1")
        process.send_signal(how)
        assert process.wait(5) == 0


def test_a_busy_port_is_one_clear_line() -> None:
    """Exit code 2, with the next step."""
    with serving() as (_, said):
        port = said["url"].rstrip("/").rpartition(":")[2]
        done = edge_agent("page", "--port", port)
    assert done.returncode == 2
    assert done.stderr == (
        f"edge-agent: port {port} of 127.0.0.1 is taken; name another with --port (0 takes a free one)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--broker", "mqtt://b:1883"), 2, "not a websocket address"),
        (("--broker", "ws://u:secret@b:1"), 2, "leave them out"),
        (("--prefix", "a/#"), 78, "cannot begin a topic"),
        (("--set", "mqtt.url=nonsense"), 78, "not a broker address"),
        (("--port", "http"), 2, "invalid int value"),
        (("--config", "/nowhere/agent.toml"), 78, "/nowhere/agent.toml"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments: tuple[str, ...], code: int, said: str) -> None:
    """No traceback, and no password repeated."""
    done = edge_agent("page", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_it_can_be_written_out_for_any_web_server(tmp_path: Path) -> None:
    """--export: files, and the headers that the web server should add."""
    where = tmp_path / "www"
    done = edge_agent("page", "--export", str(where), "--broker", "wss://b.example/mqtt", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert "connect-src 'self' wss://b.example;" in facts["headers"]["Content-Security-Policy"]
    assert all((where / path).is_file() for path in facts["files"])
    plain = edge_agent("page", "--export", str(where), "--broker", "any")
    assert plain.returncode == 0
    assert "X-Content-Type-Options: nosniff" in plain.stdout
    assert json.loads((where / "settings.json").read_text())["locked"] is False
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text("mine")
    refused = edge_agent("page", "--export", str(tmp_path / "other"))
    assert refused.returncode == 2
    assert (tmp_path / "other/index.html").read_text() == "mine"


def test_the_wheel_carries_the_page(tmp_path: Path) -> None:
    """Every file, licence of the library included; what is installed from it can serve."""
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(REPOSITORY),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert built.returncode == 0, built.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    here = REPOSITORY / "edge_agent/page/static"
    assert {f"edge_agent/page/static/{p.relative_to(here)}" for p in here.rglob("*") if p.is_file()} <= names
    assert "edge_agent/page/static/vendor/mqtt.LICENSE.md" in names
