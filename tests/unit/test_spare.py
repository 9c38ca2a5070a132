"""An engine that fails is replaced: once smaller, then by the fallback; the configured one is tried again."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.engine.base import EngineConfig
from edge_agent.engine.scripted import Line, ScriptedEngine, open_engine
from edge_agent.errors import DigestMismatch, EngineError
from edge_agent.opening import Recogniser
from edge_agent.profile.choose import Choice
from edge_agent.profile.load import load_all
from edge_agent.spare import Spares
from edge_agent.supervise import Level
from edge_agent.types import DecodeOptions, Device

PCM = np.zeros(1600, np.float32)
ASKED = DecodeOptions(beam=5)
DEVICE = Device(
    arch="x86_64",
    cpu_model="t",
    cpu_flags=frozenset(),
    cores=1,
    usable_cpus=1,
    ram_bytes=1,
    usable_ram_bytes=1,
)


class Clock:
    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ms(self) -> int:
        return 0

    def synced(self) -> bool:
        return True


class House:
    """Opens scripted engines; `broken` levels fail each decode, `absent` ones cannot be opened."""

    def __init__(self, *, broken: tuple[int, ...] = (), absent: tuple[int, ...] = ()) -> None:
        self.broken, self.absent = set(broken), set(absent)
        self.opened: list[int] = []
        self.engines: list[ScriptedEngine] = []
        self.clock = Clock()

    def open(self, level: Level) -> Recogniser:
        if level in self.absent:
            raise DigestMismatch(f"model of level {level} is damaged", remedy="pull it again")
        self.opened.append(level)
        line = Line(text=f"level {level}", error="out of memory" if level in self.broken else "")
        engine = open_engine(
            EngineConfig(kind="scripted", model_dir=".", model_name="m", extra={"script": [line]})
        )
        self.engines.append(engine)
        profile = load_all()["cpu-minimal" if level == 2 else "cpu-avx2"].profile
        return Recogniser(
            engine=engine,
            options=DecodeOptions(beam=1),
            choice=Choice(profile=profile, workers=1, reasons=(), rejected=()),
            device=DEVICE,
            model_name="m",
        )

    def spares(self, **given: object) -> Spares:
        return Spares(self.open, clock=self.clock, **given)


def heard(spares: Spares) -> str:
    """As the scribe asks: twice."""
    for attempt in (1, 2):
        try:
            return spares.transcribe(PCM, options=ASKED).text
        except EngineError:
            if attempt == 2:
                return ""
    return ""


def test_one_failure_is_forgiven() -> None:
    """The scribe repeats it; nothing is replaced."""
    house = House()
    spares = house.spares()
    house.engines[0]._lines.insert(0, Line(error="a hiccup"))
    assert heard(spares) == "level 0"
    assert house.opened == [0]
    assert spares.reason == ""


def test_two_failures_in_a_row_open_the_smaller_one_and_no_words_are_lost() -> None:
    """The utterance that met the fault is answered by the next engine, within the same call."""
    house = House(broken=(0,))
    spares = house.spares()
    told: list[Recogniser] = []
    spares.on_change = told.append
    assert heard(spares) == "level 1"
    assert "out of memory" in spares.reason
    assert len(told) == 1


def test_then_the_fallback_profile_with_its_own_beam() -> None:
    """When the smaller one fails as well, the fallback answers, decoding as its profile says."""
    house = House(broken=(0, 1))
    spares = house.spares()
    assert heard(spares) == "level 2"
    assert spares.recogniser.choice.profile.name == "cpu-minimal"
    assert house.engines[-1].calls[-1].beam == 1


def test_when_all_fail_the_error_comes_out() -> None:
    """Nothing is opened for ever: the scribe counts the errors and gives the process up."""
    house = House(broken=(0, 1, 2))
    spares = house.spares()
    assert [heard(spares) for _ in range(4)] == [""] * 4
    assert house.opened == [0, 1, 2]


def test_a_damaged_model_opens_the_fallback_at_once() -> None:
    """What cannot be opened is passed over, and the reason names it."""
    house = House(absent=(0, 1))
    spares = house.spares()
    assert spares.level == 2
    assert "model of level 0 is damaged" in spares.reason
    assert heard(spares) == "level 2"


def test_without_any_recogniser_the_first_error_is_told() -> None:
    """The configured level's error is the one to mend."""
    with pytest.raises(DigestMismatch, match="level 0"):
        House(absent=(0, 1, 2)).spares()


def test_the_configured_one_returns_after_ten_quiet_minutes_then_ever_more_rarely() -> None:
    """A fault that has passed is forgotten; one that has not costs a try in 10, then 20 minutes."""
    house = House(broken=(0,))
    spares = house.spares()
    heard(spares)
    house.clock.now_ns += 601 * 10**9
    heard(spares)  # tried again, still broken
    assert house.opened == [0, 1, 0, 1]
    house.broken.clear()
    house.clock.now_ns += 601 * 10**9
    assert heard(spares) == "level 1"
    house.clock.now_ns += 601 * 10**9
    assert heard(spares) == "level 0"
    assert spares.reason == ""


def test_the_load_may_ask_for_the_fallback_and_give_it_back() -> None:
    """That is no fault: no reason of its own, and no waiting when the load is gone."""
    house = House()
    spares = house.spares()
    spares.ask(2)
    assert heard(spares) == "level 2"
    assert spares.reason == ""
    spares.ask(0)
    assert heard(spares) == "level 0"


def test_work_of_the_engine_is_marked() -> None:
    """The mark is set around each call, opening included, so that a crash can be blamed."""
    marks: list[bool] = []
    house = House()
    spares = house.spares(busy=marks.append)
    assert marks == [True, False]
    spares.warm_up()
    heard(spares)
    assert marks == [True, False] * 3
