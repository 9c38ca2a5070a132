"""Heat and want of memory under a real systemd: less is done, step by step, each told; and the way back.

The thermometer and the kernel's pressure figures are made up, everything that reads them is real.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber
from tests.systemd.machine import Machine
from tests.systemd.results import Tell, tell
from tests.systemd.test_boot import config, finals, reasons, states

__all__ = ["tell"]
"""Fixtures."""

COOL, TEPID, HOT = 60_000, 87_000, 97_000
"""Millidegrees; the zone's trip point is at 90 °C, calm is below 85."""
ZONE = "/sys/class/thermal/thermal_zone0"
PRESSURE = "/opt/pressure"
# The unit's own view of /proc hides what is bound over it from outside.
SEES_PRESSURE = f"ProtectProc=default\nBindReadOnlyPaths={PRESSURE}/memory:/proc/pressure/memory\n"
SEES_PRESSURE += f"BindReadOnlyPaths={PRESSURE}/cpu:/proc/pressure/cpu\n"
STEPS = ("partials come more rarely", "no partials", "a smaller model recognises")


def said_since(subscriber: Subscriber, moment: float) -> list[tuple[float, str]]:
    """When, and all reasons, of each status after a moment."""
    return [(m.at, "; ".join(m.body["reasons"])) for m in subscriber.on("/up/status") if m.at > moment]


def wait_told(box: Machine, subscriber: Subscriber, words: str, since: float, timeout_s: float = 60) -> float:
    """Seconds until the broker was told."""
    box.wait(lambda: any(words in said for _, said in said_since(subscriber, since)), timeout_s, words)
    return next(at for at, said in said_since(subscriber, since) if words in said) - since


def machine(place: Path, broker: PrivateBroker, **how: bool) -> Machine:
    """One whose CPUs are never short, whatever else runs here."""
    files = {f"{PRESSURE}/{name}": psi(0) for name in ("memory", "cpu")}
    return Machine(place, config(broker), drop_in=SEES_PRESSURE, files=files, **how)


def psi(share: float) -> str:
    """The file as the kernel writes it."""
    line = f"avg10={share:.2f} avg60=0.00 avg300=0.00 total=1"
    return f"some {line}\nfull {line}\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_heat_takes_the_ladder_down_and_calm_brings_it_back(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Partials wider, off, the smaller model; between hot and cool nothing moves; then up step by step."""
    with machine(tmp_path / "machine", broker, start=False) as box:
        box.run("mount", "-t", "tmpfs", "tmpfs", "/sys/class/thermal")
        box.run("mkdir", ZONE)
        zone = box.outside(ZONE)
        for name, text in (
            ("type", "cpu-thermal"),
            ("temp", str(COOL)),
            ("trip_point_0_type", "passive"),
            ("trip_point_0_temp", "90000"),
        ):
            (zone / name).write_text(f"{text}\n")
        box.run("systemctl", "start", "edge-agent")
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        assert states(subscriber)[-1] == "online"
        usual = subscriber.on("/transcript/final")[-1].body["profile"]

        (zone / "temp").write_text(f"{HOT}\n")
        heated = time.monotonic()
        took = [wait_told(box, subscriber, words, heated) for words in STEPS]
        assert took == sorted(took)
        assert f"throttles itself at {HOT // 1000} °C" in reasons(subscriber)
        assert states(subscriber)[-1] == "degraded"
        switched = time.monotonic()
        box.wait(lambda: finals(subscriber, switched + 5), 60, "a final by the smaller model")
        smaller = subscriber.on("/transcript/final")[-1].body["profile"]
        assert smaller != usual
        tell("heat, to each step of the ladder told", ", ".join(f"{seconds:.1f} s" for seconds in took))

        (zone / "temp").write_text(f"{TEPID}\n")
        tepid = time.monotonic()
        time.sleep(40)
        assert said_since(subscriber, tepid + 2) == [], "between hot and cool nothing changes"

        (zone / "temp").write_text(f"{COOL}\n")
        cooled = time.monotonic()
        box.wait(lambda: states(subscriber)[-1] == "online", 250, "online again")
        back_s = time.monotonic() - cooled
        told = [said for _, said in said_since(subscriber, cooled)]
        assert any(STEPS[0] in said for said in told), "one step at a time"
        box.wait(
            lambda: subscriber.on("/transcript/final")[-1].body["profile"] == usual, 60, "the usual model"
        )
        assert box.show("NRestarts") == "0"
        tell("cool again, to online with all that it does", f"{back_s:.0f} s")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_pressure_of_memory_is_told_and_passes(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """PSI: everything waits for memory a quarter of the time; a short peak before it changes nothing."""
    with machine(tmp_path / "machine", broker) as box:
        box.wait(lambda: finals(subscriber, 0), 60, "a first final")
        pressure = box.outside(f"{PRESSURE}/memory")
        began = time.monotonic()
        pressure.write_text(psi(25))
        time.sleep(1.5)
        pressure.write_text(psi(0))
        time.sleep(8)
        assert not any("memory" in said for _, said in said_since(subscriber, began)), "a peak of 1.5 s"
        short = time.monotonic()
        pressure.write_text(psi(25))
        took = wait_told(box, subscriber, "memory is short", short)
        wait_told(box, subscriber, STEPS[1], short)
        pressure.write_text(psi(0))
        eased = time.monotonic()
        box.wait(lambda: states(subscriber)[-1] == "online", 250, "online again")
        tell("memory pressure, to told", f"{took:.1f} s; gone, to online: {time.monotonic() - eased:.0f} s")
