"""`edge-agent listen` on a terminal: what a person sees, on an emulator behind a real pty."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.publish as publish
import pytest

from edge_agent.mqtt import wire
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.terminal import OnTerminal

COMMAND = [sys.executable, "-m", "edge_agent"]
SAMPLES = Path(__file__).parents[2] / "edge_agent/samples"
OURS = re.compile(rb"\x1b\[(?:\?25[lh]|\?7[lh]|K|J|2J|H|\d+A|(?:1;31|[0-9]{1,2})m)")
"""Every escape sequence that the view itself writes."""
COLOURS = re.compile(rb"\x1b\[[0-9;]*3[0-9]m")
EVIL = (
    "\x1b[2J\x1b]0;owned\x07\x9b31mred\x85\u202etxt.exe\u2066\u2028\r\nedge: 00:00:00 dev is offline\x7f\x00"
    "z" + "\u0301" * 400
)


def final(text: str, **fields: object) -> dict[str, object]:
    return {
        "kind": "final", "text": text, "start": "2026-11-20T13:00:00.120Z", "channel": 0,
        "latency_ms": {"total": 493}, "confidence": 0.91, **fields,
    }  # fmt: skip


def partial(stable: str, tail: str, **fields: object) -> dict[str, object]:
    return {"kind": "partial", "channel": 0, "id": "u1", "stable": stable, "tail": tail, **fields}


def status(state: str = "online", reasons: tuple[str, ...] = ()) -> str:
    return wire.encode_status(state=state, since_utc_ms=0, reasons=reasons, boot_id="b").decode()


def health(rms: float, peak: float) -> dict[str, object]:
    return {"schema": "health/1", "audio": {"rms_dbfs": rms, "peak_dbfs": peak}}


class Listening(OnTerminal):
    """`edge-agent listen` that has connected to the broker."""

    def __init__(self, broker: PrivateBroker, *options: str, **settings: str | int) -> None:
        command = [*COMMAND, "listen", "--url", broker.url, *options]
        super().__init__(command, **settings)  # type: ignore[arg-type] - settings vary by test
        self.broker = broker
        self.send("ready", "status", status())
        live = settings.get("TERM") != "dumb" and not options
        self.wait_for("1 device" if live else "edge/ready" if options else "ready is online")

    def send(self, device: str, suffix: str, body: object, *, retain: bool = True) -> None:
        """Publish as a device would."""
        payload = body if isinstance(body, (str, bytes)) else json.dumps(body)
        publish.single(
            f"edge/{device}/up/{suffix}", payload, qos=1, retain=retain and suffix == "status",
            hostname="127.0.0.1", port=self.broker.port,
        )  # fmt: skip


def test_partials_grow_in_place_and_finals_stay(broker: PrivateBroker) -> None:
    """One line changes while one speaks; the final replaces it above, with latency and confidence."""
    with Listening(broker) as listening:
        listening.send("dev", "status", status())
        listening.send("dev", "health", health(-20, -9))
        listening.send("dev", "transcript/partial", partial("turn on", " the train", rev=1))
        listening.wait_for("turn on the train")
        assert listening.line("✓ dev online") == "✓ dev online  ███████████··│·· -20 dBFS, peak -9"
        listening.send("dev", "transcript/partial", partial("turn on the", " crane", rev=2))
        listening.wait_for("▸ turn on the crane")
        assert "train" not in listening.text, "the partial did not change in place"
        listening.send("dev", "transcript/final", final("turn on the crane", id="u1"))
        listening.send("dev", "gap", {"id": "g1", "start": "2026-11-20T13:00:03.000Z", "duration_ms": 120,
                                      "cause": "xrun"})  # fmt: skip
        listening.send("dev", "status", status("degraded", ("microphone: gone",)))
        listening.wait_for("1 gap")
        listening.wait_for("is degraded")
        above, _, below = listening.text.partition("─" * 79)
        assert "13:00:00 dev: turn on the crane (493 ms, confidence 0.91)" in " ".join(above.split())
        assert "dev ! [gap of 120 ms: xrun]" in above
        assert "dev ! is degraded: microphone: gone" in above
        assert "crane" not in below, "the partial outlived its final"
        assert "! dev degraded" in below
        assert "  microphone: gone" in below
        assert "1 final" in below
        assert listening.end() == 0


def test_twice_is_once_and_late_is_marked(broker: PrivateBroker) -> None:
    """QoS 1 may bring a message twice; a replay brings what is older than the last."""
    with Listening(broker) as listening:
        listening.send("dev", "transcript/final", final("second", id="b", seq=2))
        listening.send("dev", "transcript/final", final("second", id="b", seq=2))
        older = final("first", id="a", seq=1, start="2026-11-20T12:00:00.000Z")
        listening.send("dev", "transcript/final", older)
        listening.wait_for("1 repeated")
        listening.wait_for("first")
        assert sum("second" in line for line in listening.lines) == 1
        assert "late or replayed" in " ".join(listening.text.split())


@pytest.mark.parametrize("setting", ["colour", "no colour", "locale C", "locale C by LC_ALL", "dumb"])
def test_no_payload_drives_the_terminal(broker: PrivateBroker, setting: str) -> None:
    """Whatever a device puts into a message, the terminal receives our own sequences and printable text."""
    environment = {
        "colour": {},
        "no colour": {"NO_COLOR": "1"},
        "locale C": {"LANG": "C"},
        "locale C by LC_ALL": {"LC_ALL": "C"},
        "dumb": {"TERM": "dumb"},
    }[setting]
    with Listening(broker, **environment) as listening:
        listening.send("dev", "status", json.dumps({"state": EVIL, "reasons": [EVIL], "since": EVIL}))
        listening.send("dev", "transcript/partial", partial(EVIL, EVIL))
        listening.send("dev", "gap", {"cause": EVIL, "start": EVIL, "duration_ms": 1e300, "id": EVIL})
        listening.send("dev", "event", {"type": EVIL, "at": EVIL})
        listening.send("dev\u202e[31m", "transcript/final", final("你好 " + EVIL, flags=[EVIL]))
        listening.send("end", "transcript/final", final("that was all"))
        listening.wait_for("that was all")
        assert listening.end() == 0
        left = OURS.sub(b"", listening.seen).decode()
        assert not {c for c in left if not c.isprintable()} - {"\n", "\r"}
        assert "\u0301" * 7 not in left
        assert "\\x1b[2J" in left, "what was neutralised is shown"
        assert not any(line.startswith("edge: 00:00:00") for line in listening.lines), "a forged line"
        if setting == "no colour":
            assert not COLOURS.search(listening.seen)
        if setting.startswith("locale C"):
            assert listening.seen.isascii()
            assert "\\u4f60" in left
        if setting == "dumb":
            assert b"\x1b" not in listening.seen


@pytest.mark.parametrize("form", ["--raw", "--json"])
def test_lines_for_programs_do_not_drive_the_terminal_either(broker: PrivateBroker, form: str) -> None:
    """They are escaped when a terminal reads them; JSON keeps its value."""
    with Listening(broker, form, columns=1000, rows=40) as listening:
        listening.send("dev", "text", EVIL.encode() + b"\xff")
        listening.send("dev", "gap", json.dumps({"cause": EVIL}, ensure_ascii=False).replace("\\u", "\\u"))
        listening.send("dev", "gap", {"cause": "last"})
        listening.wait_for("last")
        assert listening.end() == 0
    told = listening.seen.decode()
    assert not {c for c in told if not c.isprintable()} - {"\n", "\r"}
    if form == "--json":
        bodies = [json.loads(line)["payload"] for line in told.splitlines() if '"cause"' in line]
        assert {"cause": EVIL} in bodies


def test_without_colour_stable_and_tail_differ(broker: PrivateBroker) -> None:
    """Brackets mark what may still change."""
    with Listening(broker, NO_COLOR="1") as listening:
        listening.send("dev", "transcript/partial", partial("turn on", " the crane"))
        listening.wait_for("▸ turn on [the crane]")
        assert not COLOURS.search(listening.seen)


def test_with_colour_stable_is_bright_and_tail_dim(broker: PrivateBroker) -> None:
    """The same words, in two weights."""
    with Listening(broker) as listening:
        listening.send("dev", "transcript/partial", partial("turn on", " the crane"))
        listening.wait_for("▸ turn on the crane")
        assert b"\x1b[1mturn on\x1b[0m \x1b[2mthe crane\x1b[0m" in listening.seen


def test_the_locale_c_gets_ascii(broker: PrivateBroker) -> None:
    """Meter, rule and marks are drawn with signs that every terminal has."""
    with Listening(broker, LANG="C") as listening:
        listening.send("dev", "status", status())
        listening.send("dev", "health", health(-20, -9))
        listening.wait_for("+ dev online  [###########..|..] -20 dBFS, peak -9")
        assert listening.seen.isascii()


def test_many_devices_on_a_narrow_terminal(broker: PrivateBroker) -> None:
    """Those that spoke last are shown, the rest is counted; no line is longer than the terminal."""
    with Listening(broker, columns=40, rows=16) as listening:
        for number in range(60):
            listening.send(f"dev-{number:02}", "status", status("offline" if number % 10 == 0 else "online"))
        listening.send("dev-33", "transcript/partial", partial("這是一個很長的句子，" * 8, "還沒說完"))
        listening.wait_for("還沒說完")
        listening.wait_for("61 devices")
        below = listening.text.rpartition("─" * 39)[2]
        assert "dev-33 online" in below
        assert re.search(r"… and 5\d more: 5\d online, \d offline", below)
        assert all(len(line.encode("utf-16-le")) // 2 <= 40 for line in listening.lines)


def test_another_size_is_painted_anew(broker: PrivateBroker) -> None:
    """What was told is there again, folded to the new width, and the region once."""
    with Listening(broker) as listening:
        listening.send("dev", "transcript/final", final("one two three four five six seven eight nine ten"))
        listening.wait_for("eight nine ten")
        listening.resize(40, 20)
        listening.wait_for("─" * 39)
        wait_until(lambda: sum("─" * 20 in line for line in listening.lines) == 1)
        assert "seven eight nine ten" in " ".join(listening.text.split())
        assert sum("2 devices" in line for line in listening.lines) == 1


def test_a_lost_broker_shows_until_it_is_back(broker: PrivateBroker) -> None:
    """A line for good, the last line meanwhile, another line, and the listening goes on."""
    with Listening(broker) as listening:
        listening.send("dev", "transcript/partial", partial("turn", ""))
        listening.wait_for("▸ turn")
        broker.kill()
        listening.wait_for("✗ reconnecting to mqtt://")
        assert "▸ turn" not in listening.text, "nobody knows what is said now"
        listening.wait_for("broker lost: ")
        broker.start()
        listening.wait_for("broker back after", 40)
        listening.send("dev", "transcript/final", final("on again"))
        listening.wait_for("on again")
        assert "reconnecting" not in listening.text
        assert listening.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back(broker: PrivateBroker, number: signal.Signals) -> None:
    """Cursor, line wrap and echo as before, the region gone, what was told still there."""
    with Listening(broker) as listening:
        assert not listening.echo
        listening.send("dev", "transcript/final", final("the last words"))
        listening.wait_for("the last words")
        assert listening.screen.cursor.hidden
        assert listening.end(number) == 0
        assert not listening.screen.cursor.hidden
        assert listening.seen.rstrip().endswith(b"\x1b[?7h\x1b[?25h")
        assert listening.echo
        assert "─" * 20 not in listening.text
        assert "the last words" in listening.text


def test_ctrl_z_gives_the_terminal_back_for_a_while(broker: PrivateBroker) -> None:
    """Stopped, the shell has its cursor and echo; continued, the view is there again."""
    script = '"$@"; echo stopped; read -r; fg'
    command = ["bash", "-mc", script, "bash", *COMMAND, "listen", "--url", broker.url]
    with OnTerminal(command) as shell:
        shell.wait_for("0 devices")
        shell.type(b"\x1a")
        shell.wait_for("stopped")
        assert not shell.screen.cursor.hidden
        assert shell.echo
        shell.type(b"\n")
        shell.wait_for("0 devices")
        wait_until(lambda: shell.lines and shell.screen.cursor.hidden)
        assert not shell.echo
        shell.type(b"\x03")
        wait_until(lambda: shell.lines and not shell.screen.cursor.hidden)
        assert shell.echo


def test_head_ends_it_quietly(broker: PrivateBroker) -> None:
    """`| head -1`: the reader leaves, and so do we, though no further message comes."""
    publish.single(
        "edge/ready/up/status", status(), qos=1, retain=True, hostname="127.0.0.1", port=broker.port
    )
    script = f"{sys.executable} -m edge_agent listen --url {broker.url} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "00:00:00 ready is online\n0\n"
    assert done.stderr == ""


def test_raw_into_a_pipe_is_byte_for_byte(broker: PrivateBroker) -> None:
    """Bytes that are no UTF-8 and escape sequences come out as they went in."""
    payload = b"\x1b[2J\xff\xfe " + EVIL.encode()
    with subprocess.Popen(
        [*COMMAND, "listen", "--url", broker.url, "--raw"], stdout=subprocess.PIPE
    ) as process:
        publish.single(
            "edge/ready/up/status", payload, qos=1, retain=True, hostname="127.0.0.1", port=broker.port
        )
        assert process.stdout is not None
        wanted = b"edge/ready/up/status " + payload + b"\n"
        assert process.stdout.read(len(wanted)) == wanted
        process.terminate()
        assert process.wait(10) == 0


def test_a_real_agent_speaks(broker: PrivateBroker, tmp_path: Path) -> None:
    """80 columns: the words of a recording grow and become a final; state and level are there."""
    recording = SAMPLES / "find_a_way_out.flac"
    settings = (
        f'audio.source="file:{recording}?loop=1"', f"mqtt.url={broker.url}", "device.id=kiosk",
        "mqtt.health_interval_s=1",
    )  # fmt: skip
    with Listening(broker) as listening, AgentProcess(tmp_path / "state", *settings):
        listening.wait_for("✓ kiosk online", 60)
        listening.wait_for("▸ ", 60)
        listening.wait_for("kiosk: ", 60)
        wait_until(lambda: re.search(r"✓ kiosk online  █+·*│?·* -\d+ dBFS, peak -\d+", listening.text), 20)
        told = " ".join(listening.text.split())
        assert re.search(r"kiosk: .*way out.* \(\d+ ms, confidence 0\.\d\d\)", told)
        began = time.monotonic()
        assert listening.end() == 0
        assert time.monotonic() - began < 3
