"""A watch over real threads: what hangs is named, what merely has much to do is not."""

from __future__ import annotations

import threading
import time

import pytest

from edge_agent import strain
from edge_agent.clock import SystemClock
from edge_agent.supervise import Limit
from edge_agent.vigil import LOOK_S, Vigil, Watched

SECOND = 1_000_000_000


class Clock:
    """Moved by hand."""

    ns = SECOND

    def monotonic_ns(self) -> int:
        return self.ns

    def utc_ms(self) -> int:
        return 0

    def synced(self) -> bool:
        return True


def group(name: str, **given: object) -> Watched:
    """Alive, never progressing, with a limit of two seconds."""
    usual = {"alive": lambda: True, "progress": lambda: 1, "limit": lambda: Limit(idle_s=2, busy_s=4)}
    return Watched(name=name, **{**usual, **given})


class Scene:
    """A vigil over made-up accounts of made-up threads."""

    def __init__(self, *groups: Watched) -> None:
        self.clock = Clock()
        self.accounts: dict[int, strain.Thread] = {}
        self.owners: list[object] = []
        self.vigil = Vigil(groups, clock=self.clock, read=self._read, threads=lambda: self.owners)

    def thread(self, number: int, name: str) -> strain.Thread:
        """Another thread; without a name it is a library's."""
        account = self.accounts[number] = strain.Thread(0, 0, "S")
        if name:
            owner = threading.Thread(name=name)
            owner._native_id = number  # what a running one has
            self.owners.append(owner)
        return account

    def pass_by(self, looks: int, **growth: float) -> tuple[str, ...]:
        """Look so often; each account grows by these seconds between two looks."""
        found: tuple[str, ...] = ()
        for _ in range(looks):
            self.clock.ns += int(LOOK_S * SECOND)
            self.vigil.beat()
            for account in self.accounts.values():
                account.worked_ns += int(growth.get("worked", 0) * SECOND)
                account.waited_ns += int(growth.get("waited", 0) * SECOND)
            found = self.vigil.look()
        return found

    def _read(self) -> dict[int, strain.Thread]:
        return {n: strain.Thread(t.worked_ns, t.waited_ns, t.state) for n, t in self.accounts.items()}


def test_a_stopped_thread_is_named_and_a_starved_one_is_not() -> None:
    """State "t" for ever, against one that stands in the queue for a CPU."""
    scene = Scene(group("ears"))
    scene.thread(1, "ears").state = "t"
    assert scene.pass_by(5) == ()
    assert scene.pass_by(2) == ("ears",)
    starved = Scene(group("ears"))
    starved.thread(1, "ears").state = "R"
    assert starved.pass_by(60) == ()


def test_a_disk_that_does_not_answer_is_no_hang() -> None:
    """State "D": a card that stalls for ten seconds gets them."""
    scene = Scene(group("scribe"))
    scene.thread(1, "scribe").state = "D"
    assert scene.pass_by(20) == ()


def test_a_library_works_for_its_group_only() -> None:
    """The scribe waits for the engine's thread; that one is at work, so the longer limit holds."""
    scene = Scene(group("scribe", has_libraries=True), group("ears"))
    scene.thread(1, "scribe")
    scene.thread(2, "ears")
    engine = scene.thread(3, "")
    for looks in range(7):
        engine.worked_ns += SECOND // 2
        found = scene.pass_by(1)
        assert found == (("ears",) if looks >= 5 else ()), looks


def test_a_look_that_came_late_is_held_against_nobody() -> None:
    """The whole process stood still for a minute (a virtual machine was paused, say)."""
    scene = Scene(group("ears"))
    scene.thread(1, "ears")
    scene.pass_by(2)
    scene.clock.ns += 60 * SECOND
    assert scene.vigil.look() == ()


def test_a_main_thread_that_stands_still_is_named_too() -> None:
    """It beats by itself; all others are asked."""
    scene = Scene()
    scene.thread(1, "MainThread")
    assert scene.pass_by(60) == ()
    for _ in range(20):
        scene.clock.ns += int(LOOK_S * SECOND)
        found = scene.vigil.look()
    assert found == ("main",)


def test_this_kernel_tells_of_this_process() -> None:
    """Work is seen as work, sleep as sleep."""
    me = threading.get_native_id()
    before = strain.read().get(me)
    if before is None:
        pytest.skip("this kernel keeps no account of threads")
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    after = strain.read()[me]
    assert after.worked_ns - before.worked_ns > 30_000_000
    assert strain.owners(threading.enumerate())[me] == "MainThread"


def test_it_pings_while_all_is_well_and_ends_what_hangs() -> None:
    """The real thread on the real clock: pings, then one hang, no more pings, the end."""
    pings, ended = [], threading.Event()
    tight = Limit(idle_s=0.6, busy_s=0.6)
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait, args=(60,), name="stuck", daemon=True)
    beats = iter(range(1000))
    well = [True]
    vigil = Vigil(
        (group("stuck", limit=lambda: tight, progress=lambda: next(beats) if well[0] else -1),),
        clock=SystemClock(),
    )
    thread.start()
    found: list[tuple[str, ...]] = []
    vigil.start(lambda: pings.append(1), lambda hung: (found.append(hung), ended.set()))
    until = time.monotonic() + 20
    while not pings and time.monotonic() < until:
        time.sleep(0.02)
    assert pings
    well[0] = False
    assert ended.wait(30)
    assert found == [("stuck",)]
    assert vigil.hung == ("stuck",)
    wait.set()
    vigil.stop()
