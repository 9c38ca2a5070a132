"""The unit under a real systemd: it hears, decodes and publishes, and comes back from what is done to it.

Broken from outside (kill, freeze, damaged files), watched from outside (journal and broker).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests.alsa.room import Room, plugin
from tests.broker import Subscriber
from tests.e2e.commander import Commander
from tests.systemd.machine import Machine
from tests.systemd.results import Tell, tell

__all__ = ["tell"]
"""Fixtures."""

WORDS = "Let us talk it over and find a way out."
SOURCE = "file:/opt/checkout/edge_agent/samples/find_a_way_out.flac?loop=1"
SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"
PROBE = "ExecStartPre=/opt/venv/bin/python -B /opt/checkout/tests/systemd/probe.py\n"
NEEDED = {"write state", "write runtime", "write /tmp", "internet socket"}


def config(broker: PrivateBroker, **sections: str) -> str:
    extra = "".join(f"[{name}]\n{text}\n" for name, text in sections.items())
    return f'[device]\nid = "box"\n[mqtt]\nurl = "{broker.url}"\n[audio]\nsource = "{SOURCE}"\n{extra}'


def finals(subscriber: Subscriber, after: float) -> list[float]:
    """Arrival times of finals after a moment."""
    return [m.at for m in subscriber.on("/transcript/final") if m.at > after]


def states(subscriber: Subscriber) -> list[str]:
    return [m.body["state"] for m in subscriber.on("/up/status")]


def reasons(subscriber: Subscriber) -> str:
    said = subscriber.on("/up/status")
    return "; ".join(said[-1].body["reasons"]) if said else ""


def test_it_boots_hears_is_closed_in_and_survives_a_kill(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Boot to first final; the sandbox denies what the agent never needs; kill -9 costs seconds."""
    with Machine(tmp_path / "machine", config(broker), drop_in=PROBE) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        tell("boot to first final", f"{finals(subscriber, 0)[0] - box.began:.1f} s")
        assert subscriber.on("/transcript/final")[0].body["text"] == WORDS
        probe = next(line for line in box.said().splitlines() if line.startswith("PROBE"))
        told = json.loads(probe.removeprefix("PROBE "))
        assert {name for name, answer in told.items() if answer == "allowed"} == NEEDED
        tell("sandbox: attempts denied, of those that are not needed", f"{len(told) - len(NEEDED)} of 16")
        assert box.show("StatusText").startswith("listening")
        killed = time.monotonic()
        box.run("systemctl", "kill", "-s", "KILL", "edge-agent")
        box.wait(lambda: finals(subscriber, killed + 0.5), 60, "a final after the kill")
        tell("kill -9 to the next final", f"{finals(subscriber, killed + 0.5)[0] - killed:.1f} s")
        assert box.show("NRestarts") == "1"
        assert "offline" in states(subscriber)
        box.run("systemctl", "stop", "edge-agent")
        assert box.show("Result") == "success"
        assert states(subscriber)[-1] == "stopped"
        entries = box.journal()
        told = [entry for entry in entries if entry.get("EDGE_AGENT_EVENT") == "final"]
        assert told[0]["EDGE_AGENT_SEQ"] == "1"
        assert told[0]["PRIORITY"] == "6"
        assert float(told[0]["EDGE_AGENT_LATENCY_MS"]) > 0
        assert "way out" not in json.dumps(entries)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_restart_asked_for_from_afar_is_no_failure_and_a_journal_of_its_own_works(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """Exit code 75: started again, nothing failed. The log namespace has the line of each utterance."""
    with Machine(tmp_path / "machine", config(broker), drop_in="LogNamespace=edge-agent\n") as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        asked = time.monotonic()
        with Commander(broker.port) as fleet:
            # Refused in the first minute, lest a fleet restarts its boxes for ever.
            while fleet.ask("restart", timeout_s=90)["state"] == "refused" and time.monotonic() - asked < 120:
                time.sleep(5)
        box.wait(lambda: box.show("NRestarts") == "1", 30, "the restart")
        box.wait(lambda: finals(subscriber, asked + 1), 60, "a final after it")
        assert box.run("systemctl", "--failed", "--no-legend", "--plain").strip() == ""
        assert "Failed with result" not in box.said()
        own = box.run("journalctl", "--namespace=edge-agent", "-o", "json", "--no-pager", "-q")
        entries = [json.loads(line) for line in own.splitlines() if line.startswith("{")]
        lines = [entry for entry in entries if entry.get("EDGE_AGENT_EVENT") == "final"]
        assert len({entry["EDGE_AGENT_SEQ"] for entry in lines}) == len(lines) >= 2
        assert "way out" not in own


@pytest.mark.slow
def test_a_wrong_configuration_is_told_and_not_restarted(tmp_path: Path, broker: PrivateBroker) -> None:
    """Exit code 78: a restart would only repeat it."""
    wrong = config(broker, endpoint="silense_ms = 300")
    with Machine(tmp_path / "machine", wrong, start=False) as box:
        box.run("systemctl", "start", "edge-agent", check=False)
        box.wait(lambda: box.show("ActiveState") == "failed", 20, "failed")
        time.sleep(2)
        assert (box.show("NRestarts"), box.show("ExecMainStatus")) == ("0", "78")
        assert "silense_ms" in box.said()
        assert "silence_ms" in box.said()


PROMISED_S = 10.0
"""From the hang until it captures again, besides what loading the model takes."""


def recovered(box: Machine, began: float) -> tuple[float, float]:
    """Wait until it captures again; answers the seconds since `began`, and those from the new process's start
    until it listened, which is the loading of its model."""
    box.wait(lambda: box.said().count("listening source=") == 2, 120, "capturing again")
    capturing_s = time.monotonic() - began
    heard = [e for e in box.journal() if str(e.get("MESSAGE", "")).startswith("listening source=")]
    listening_us = int(heard[-1]["__MONOTONIC_TIMESTAMP"])
    return capturing_s, (listening_us - int(box.show("ExecMainStartTimestampMonotonic"))) / 1e6


def spent(capturing_s: float, load_s: float, by: str) -> str:
    return f"{capturing_s:.1f} s, of which {load_s:.1f} s to load the model; noticed by {by}"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_stopped_process_is_restarted_by_the_watchdog(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Nobody pings: systemd ends it, and it hears again."""
    with Machine(tmp_path / "machine", config(broker)) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        began = time.monotonic()
        box.run("systemctl", "kill", "-s", "STOP", "edge-agent")
        capturing_s, load_s = recovered(box, began)
        box.wait(lambda: finals(subscriber, began + PROMISED_S / 2), 60, "a final")
        assert "Watchdog timeout" in box.said()
        tell("whole process stopped, to capturing again", spent(capturing_s, load_s, "the watchdog"))
        assert capturing_s - load_s < PROMISED_S


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("thread", ["ears", "cutter", "scribe", "engine", "courier", "vigil", "main"])
def test_one_hung_thread_is_caught_while_all_others_run(
    thread: str, tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Only progress feeds the heart: a thread frozen by ptrace ends the process, which starts anew."""
    with Machine(tmp_path / "machine", config(broker)) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        frozen, began = freeze(thread)
        try:
            # Frozen with the interpreter's lock in its hand it stops all threads: then the watchdog sees it.
            capturing_s, load_s = recovered(box, began)
            box.wait(lambda: finals(subscriber, began + capturing_s), 60, "a final")
        finally:
            frozen.kill()
            frozen.wait(10)
        by = "the watchdog" if "Watchdog timeout" in box.said() else "its own watch"
        tell(f"thread {thread} frozen, to capturing again", spent(capturing_s, load_s, by))
        assert box.show("NRestarts") == "1"
        if thread in {"ears", "cutter", "scribe"} and by == "its own watch":
            told = [reason for m in subscriber.on("/up/status") for reason in m.body["reasons"]]
            assert any(f"{thread} made no progress" in reason for reason in told)
        assert capturing_s - load_s < PROMISED_S


def freeze(name: str) -> tuple[subprocess.Popen[str], float]:
    """Freeze a thread of the agent that runs in a container, by its name, or "main", or "engine": the busiest
    of the library's own, and in its work. Answers when that was, too."""
    process, thread = contained(name)
    helper = Path(__file__).with_name("freeze.py")
    where = [thread, f"/proc/{process}/root/run/edge-agent/engine.busy"][: 2 if name == "engine" else 1]
    frozen = subprocess.Popen([sys.executable, str(helper), *where], stdout=subprocess.PIPE, text=True)
    assert frozen.stdout is not None
    word, ago_s = frozen.stdout.readline().split()
    assert word == "frozen"
    return frozen, time.monotonic() - float(ago_s)


def contained(name: str) -> tuple[str, str]:
    """Process and thread of that name, of the agent in the container."""
    found: list[tuple[int, str, str]] = []
    for status in Path("/proc").glob("[0-9]*/task/[0-9]*/comm"):
        process, thread = status.parents[2], status.parent
        try:
            if b"edge_agent" not in (process / "cmdline").read_bytes():
                continue
            if "edge-agent.service" not in (process / "cgroup").read_text():
                continue
            comm = status.read_text().strip()
            ticks = sum(map(int, (thread / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
        if thread.name == process.name:
            comm = "main"
        elif comm.startswith("python"):
            comm = "engine"
        if comm == name:
            found.append((ticks, process.name, thread.name))
    assert found, f"no thread {name} in a contained agent"
    return max(found)[1:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_damaged_model_falls_back_and_without_any_it_waits_for_the_repair(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Half a model: the fallback serves, degraded. No model at all: it waits, says so, and heals itself."""
    mine = "[Service]\nEnvironment=EDGE_AGENT_MODELS=/var/lib/models\n"
    extra = {"etc/systemd/system/edge-agent.service.d/zz.conf": mine}
    with Machine(tmp_path / "machine", config(broker), start=False, files=extra) as box:
        store = box.root / "var/lib/models"
        for name in ("whisper-base", "whisper-tiny.en"):
            shutil.copytree(models_dir() / name / "source", store / name / "source")
        for path in [store, *store.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        whole = store / "whisper-base/source/model.bin"
        os.truncate(whole, whole.stat().st_size // 2)
        began = time.monotonic()
        box.run("systemctl", "start", "edge-agent")
        box.wait(lambda: finals(subscriber, began), 30, "a final by the fallback profile")
        tell("half a model, to a final by the fallback", f"{finals(subscriber, began)[0] - began:.1f} s")
        assert subscriber.on("/transcript/final")[-1].body["profile"] == "cpu-minimal"
        assert "whisper-base" in reasons(subscriber)
        assert states(subscriber)[-1] == "degraded"
        # Now there is none at all.
        box.run("systemctl", "stop", "edge-agent")
        box.run("rm", "-r", "/var/lib/models/whisper-base", "/var/lib/models/whisper-tiny.en")
        began = time.monotonic()
        box.run("systemctl", "start", "edge-agent")
        box.wait(lambda: "cannot be opened" in reasons(subscriber), 20, "the reason on the broker")
        assert box.show("ActiveState") == "active"
        assert "models pull" in box.show("StatusText")
        shutil.copytree(models_dir() / "whisper-base/source", store / "whisper-base/source")
        for path in store.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        mended = time.monotonic()
        box.wait(lambda: finals(subscriber, mended), 60, "a final after the repair")
        tell("model put back, to the first final", f"{finals(subscriber, mended)[0] - mended:.1f} s")
        assert box.show("NRestarts") == "0"
        assert states(subscriber)[-1] == "online"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_five_deaths_in_a_minute_are_followed_by_a_pause_that_is_told(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """No storm: five restarts, then a minute of nothing but reporting, then it hears again."""
    with Machine(tmp_path / "machine", config(broker)) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        began = time.monotonic()
        for restarts in range(1, 6):
            box.run("systemctl", "kill", "-s", signal.Signals.SIGKILL.name, "edge-agent")
            box.wait(lambda n=restarts: box.show("NRestarts") == str(n), 20, "a restart")
            box.wait(lambda: box.main_pid, 20, "a process")
            time.sleep(1.0)
        box.wait(lambda: "5 times within 60 s" in reasons(subscriber), 30, "the reason on the broker")
        held = time.monotonic()
        assert states(subscriber)[-1] == "degraded"
        box.wait(lambda: finals(subscriber, held), 120, "a final after the pause")
        tell(
            "five kills, then held",
            f"after {held - began:.0f} s; the next final {finals(subscriber, held)[0] - held:.0f} s later",
        )
        assert box.show("NRestarts") == "5"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_engine_that_crashes_is_tried_smaller_and_then_replaced_by_the_fallback(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """A segmentation fault inside a decode, twice: the second restart serves with the fallback profile."""
    with Machine(tmp_path / "machine", config(broker)) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        began = time.monotonic()
        for crashes in (1, 2):
            box.wait(lambda n=crashes: box.said().count("listening source=") == n, 60, "listening")
            crash_in_a_decode(box)
            box.wait(lambda n=crashes: box.show("NRestarts") == str(n), 30, "a restart")
        box.wait(lambda: "cpu-minimal" in served_since(subscriber, began), 60, "a final by the fallback")
        first = next(m.at for m in subscriber.on("/transcript/final") if m.body["profile"] == "cpu-minimal")
        tell("first of two crashes, to a final by the fallback", f"{first - began:.1f} s")
        assert "2 times, last: it was killed or crashed while it was decoding" in reasons(subscriber)
        assert states(subscriber)[-1] == "degraded"


def crash_in_a_decode(box: Machine) -> None:
    """SIGSEGV at a moment at which the agent's own mark says that the engine works."""
    mark = box.outside("/run/edge-agent/engine.busy")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if mark.read_bytes() == b"\1":
            box.run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "edge-agent")
            if mark.read_bytes() == b"\1":
                box.run("systemctl", "kill", "--kill-whom=main", "-s", "SEGV", "edge-agent")
                box.run("systemctl", "kill", "--kill-whom=main", "-s", "CONT", "edge-agent", check=False)
                return
            box.run("systemctl", "kill", "--kill-whom=main", "-s", "CONT", "edge-agent")
        time.sleep(0.005)
    raise AssertionError("the engine was never at work")


def served_since(subscriber: Subscriber, moment: float) -> set[str]:
    """Profiles of the finals after a moment."""
    return {m.body["profile"] for m in subscriber.on("/transcript/final") if m.at > moment}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_microphone_and_a_full_disk_are_told_and_heal(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Inside the sandbox, on real libasound: unplugged and back, full and free again, without a restart."""
    said = np.concatenate((read_audio(SAMPLE), np.zeros(16_000, np.float32)))
    Room(tmp_path / "room", np.tile(said, 100))  # its files are copied inside
    here, there = tmp_path / "room", "/opt/room"
    conf = (here / "asound.conf").read_text().replace(str(here), there)
    conf = conf.replace(str(plugin()), f"{there}/room.so")
    drop_in = f"Environment=ALSA_CONFIG_PATH={there}/asound.conf\n"
    text = config(broker).replace(SOURCE, "alsa:mic")
    files = {f"{there}/asound.conf": conf, f"{there}/control": ""}
    with Machine(tmp_path / "machine", text, drop_in=drop_in, files=files, start=False) as box:
        for name, origin in (("sound.raw", here / "sound.raw"), ("room.so", plugin())):
            shutil.copy(origin, box.root / there.lstrip("/") / name)
        box.run("mkdir", "-p", "/var/lib/edge-agent")
        box.run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", "/var/lib/edge-agent")
        box.run("systemctl", "start", "edge-agent")
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        control = box.outside(f"{there}/control")
        pulled = time.monotonic()
        control.write_text("unplug")
        box.wait(lambda: "microphone" in reasons(subscriber), 20, "the loss on the broker")
        told_s = time.monotonic() - pulled
        control.write_text("")
        back = time.monotonic()
        box.wait(lambda: states(subscriber)[-1] == "online", 20, "online again")
        online_s = time.monotonic() - back
        box.wait(lambda: finals(subscriber, back), 30, "words after the return")
        box.wait(lambda: "unplug" in {m.body["cause"] for m in subscriber.on("/up/gap")}, 30, "the gap")
        tell("microphone unplugged, to told", f"{told_s:.1f} s")
        tell("microphone plugged in, to online", f"{online_s:.1f} s")
        full = time.monotonic()
        box.wait(lambda: fill(box) and "outbox" in reasons(subscriber), 60, "the full disk on the broker")
        box.wait(lambda: finals(subscriber, full), 30, "words with a full disk")
        box.run("rm", "/var/lib/edge-agent/filler")
        freed = time.monotonic()
        box.wait(lambda: states(subscriber)[-1] == "online", 60, "durable again")
        tell("disk freed, to durable again", f"{time.monotonic() - freed:.1f} s")
        seqs = sorted({m.body["seq"] for m in subscriber.on("/transcript/final") + subscriber.on("/up/gap")})
        assert seqs == list(range(1, seqs[-1] + 1))
        assert box.show("NRestarts") == "0"


def fill(box: Machine) -> bool:
    """Take all room below the state directory, also what the outbox gave up of its reserve since."""
    filler = ("of=/var/lib/edge-agent/filler", "oflag=append", "conv=notrunc")
    for size in ("64k", "512"):
        box.run("dd", "if=/dev/zero", *filler, f"bs={size}", check=False)
    return True
