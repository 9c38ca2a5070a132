"""Disks that fill up, turn read-only or rot: the caller never notices, and the way back is found alone."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.outbox.ballast import SIZE_BYTES
from edge_agent.outbox.database import Database
from edge_agent.outbox.policy import MEMORY_ROWS
from edge_agent.outbox.store import Outbox

CLOCK = SystemClock()


def add(outbox: Outbox, name: str, *, size: int = 1000) -> int:
    """Append a final of about `size` bytes."""
    return outbox.append(
        id=name, kind="final", make_payload=lambda seq: b'{"seq":%d,"pad":"%s"}' % (seq, b"x" * size)
    )


def drain(outbox: Outbox) -> list[int]:
    """Deliver everything; the seqs in order."""
    seqs: list[int] = []
    while batch := outbox.next_batch(20):
        outbox.mark_many([(row.seq, 0) for row in batch])
        seqs += [row.seq for row in batch]
    return seqs


def until_durable(outbox: Outbox, timeout_s: float = 5.0) -> float:
    """Tend once in a while, as the courier does, until rows are on disk again; the seconds it took."""
    began = time.monotonic()
    while outbox.stats().state != "durable":
        assert time.monotonic() - began < timeout_s, outbox.stats()
        outbox.tend()
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; needs root."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """Make the small disk read-only ("ro") or writable ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True)


class TestFullDisk:
    """P7: it keeps what it has, keeps taking rows, and recovers alone."""

    def test_rows_wait_in_memory_and_reach_the_disk_when_there_is_room(self, tmp_path: Path) -> None:
        """A neighbour fills the disk: no append fails, all numbers come out, all rows end on disk."""
        with small_disk(tmp_path / "disk", "4m") as folder:
            outbox = Outbox(folder / "outbox.sqlite3", clock=CLOCK)
            for number in range(100):
                add(outbox, f"before{number}")
            _fill(folder / "neighbour")
            for number in range(900):
                add(outbox, f"during{number}", size=2000)
            stats = outbox.stats()
            assert stats.state == "memory"
            assert "full" in stats.fault
            assert stats.queued == 1000
            assert 0 < stats.in_memory < 900, "the ballast made room for some"
            (folder / "neighbour").unlink()
            took_s = until_durable(outbox)
            assert outbox.stats().in_memory == 0
            assert drain(outbox) == list(range(1, 1001))
            outbox.close()
        print(f"{stats.in_memory} of 1000 rows waited in memory; durable {took_s:.1f} s after there was room")

    def test_the_queue_drains_on_a_disk_that_stays_full(self, tmp_path: Path) -> None:
        """Deliveries make the room that the next rows need: nothing lost, nothing sent twice."""
        with small_disk(tmp_path / "disk", "4m") as folder:
            outbox = Outbox(folder / "outbox.sqlite3", clock=CLOCK)
            for number in range(500):
                add(outbox, f"before{number}")
            _fill(folder / "neighbour")
            for number in range(200):
                add(outbox, f"during{number}")
            sent = drain(outbox)
            assert sorted(sent) == list(range(1, 701))
            time.sleep(1.1)  # the next try of the disk is due
            outbox.tend()
            add(outbox, "after")
            assert outbox.stats().state == "durable", outbox.stats()
            assert drain(outbox) == [701]
            outbox.close()

    def test_living_on_the_reserve_is_told_before_anything_goes_wrong(self, tmp_path: Path) -> None:
        """The space held back keeps rows on a full disk; that it is in use is told, until it is back."""
        with small_disk(tmp_path / "disk", "4m") as folder:
            outbox = Outbox(folder / "outbox.sqlite3", clock=CLOCK)
            add(outbox, "before", size=2000)
            assert outbox.stats().trouble == ""
            _fill(folder / "neighbour")
            for number in range(40):
                add(outbox, f"during{number}", size=2000)
            stats = outbox.stats()
            assert (stats.state, stats.reserve_held) == ("durable", False)
            assert "the disk is full" in stats.trouble
            outbox.tend()
            assert not outbox.stats().reserve_held
            (folder / "neighbour").unlink()
            outbox.tend()
            assert outbox.stats().trouble == ""
            outbox.close()

    def test_memory_is_bounded_and_what_it_loses_is_admitted(self, tmp_path: Path) -> None:
        """Over a thousand rows in memory, the oldest go, counted in one gap."""
        with small_disk(tmp_path / "disk", "1m") as folder:
            outbox = Outbox(
                folder / "outbox.sqlite3",
                clock=CLOCK,
                make_gap=lambda seq, _id, drop: b"gap %d: %d" % (seq, drop.count),
            )
            add(outbox, "first")
            _fill(folder / "neighbour")
            while outbox.stats().state == "durable":
                add(outbox, f"fits{outbox.last_seq}")
            for number in range(MEMORY_ROWS + 100):
                add(outbox, f"during{number}")
            stats = outbox.stats()
            assert stats.in_memory == MEMORY_ROWS
            assert stats.dropped_over_quota > 0
            gaps = [r for r in outbox.next_batch(5000) if r.kind == "gap"]
            assert [r.payload for r in gaps] == [b"gap %d: %d" % (gaps[0].seq, stats.dropped_over_quota)]
            outbox.close()

    def test_the_ballast_is_held_only_where_there_is_room(self, tmp_path: Path) -> None:
        """A disk too small for it is not filled by it."""
        with small_disk(tmp_path / "disk", "800k") as folder:
            outbox = Outbox(folder / "outbox.sqlite3", clock=CLOCK)
            assert not (folder / "outbox.sqlite3.ballast").exists()
            assert add(outbox, "a") == 1
            outbox.close()
        with small_disk(tmp_path / "larger", "4m") as folder:
            Outbox(folder / "outbox.sqlite3", clock=CLOCK).close()
            assert (folder / "outbox.sqlite3.ballast").stat().st_size == SIZE_BYTES


class TestReadOnlyDisk:
    """P8: a read-only disk never stops the ears."""

    def test_a_start_on_a_read_only_disk_works_from_memory_and_heals(self, tmp_path: Path) -> None:
        """Rows on disk are delivered, new ones wait in memory, and all are on disk once it is writable."""
        with small_disk(tmp_path / "disk", "4m") as folder:
            path = folder / "outbox.sqlite3"
            outbox = Outbox(path, clock=CLOCK)
            add(outbox, "a")
            add(outbox, "b")
            outbox.close()
            remount(folder, "ro")
            outbox = Outbox(path, clock=CLOCK)
            assert outbox.stats().state == "memory"
            assert add(outbox, "c") == 3
            assert [row.seq for row in outbox.next_batch(9, after_seq=2)] == [3, 1, 2]
            outbox.mark_many([(1, 0), (3, 0)])
            assert [row.seq for row in outbox.next_batch(9)] == [2]
            remount(folder, "rw")
            took_s = until_durable(outbox)
            stats = outbox.stats()
            assert (stats.queued, stats.delivered, stats.in_memory) == (1, 2, 0)
            outbox.close()
            again = Outbox(path, clock=CLOCK)
            assert add(again, "d") == 4
            again.close()
        print(f"durable {took_s:.1f} s after the disk was writable")

    def test_a_state_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        """Not even a directory: memory it is."""
        with small_disk(tmp_path / "disk", "4m") as folder:
            remount(folder, "ro")
            outbox = Outbox(folder / "state" / "outbox.sqlite3", clock=CLOCK)
            assert add(outbox, "a") == 1
            assert outbox.stats().state == "memory"
            assert drain(outbox) == [1]
            outbox.close()


class TestCorruptStore:
    """P8: set aside, begun anew within two seconds, what can be read is kept."""

    def test_rubbish_instead_of_a_database(self, tmp_path: Path) -> None:
        """A file that is no database is renamed, not deleted."""
        path = tmp_path / "outbox.sqlite3"
        path.write_bytes(os.urandom(9000))
        outbox = Outbox(path, clock=CLOCK)
        assert add(outbox, "a") == 1
        assert outbox.stats().corrupt_files == 1
        kept = list(tmp_path.glob("outbox.sqlite3.corrupt-*"))
        assert [f.stat().st_size for f in kept] == [9000]
        outbox.close()

    def test_a_store_of_a_newer_version_is_not_touched_in_place(self, tmp_path: Path) -> None:
        """After a downgrade the newer store is set aside, not misread."""
        path = tmp_path / "outbox.sqlite3"
        Outbox(path, clock=CLOCK).close()
        database = Database(path)
        database._db.execute("PRAGMA user_version = 99")
        database.close()
        outbox = Outbox(path, clock=CLOCK)
        assert outbox.stats().corrupt_files == 1
        assert add(outbox, "a") >= 1
        outbox.close()

    @pytest.mark.parametrize("seed", [*range(12), 187, 381])
    def test_flipped_bytes_in_the_database(self, tmp_path: Path, seed: int) -> None:
        """Random damage: rows that can be read survive and go out once, numbers go on above them.

        In the last cases a damaged index names a row twice, and rows cannot be found to mark them.
        """
        chance = random.Random(seed)
        path = _filled(tmp_path, rows=300)
        _flip(path, chance, count=chance.choice((1, 8, 64)))
        began = time.monotonic()
        outbox = Outbox(path, clock=CLOCK)
        sent = drain(outbox)
        new = add(outbox, "new")
        took_s = time.monotonic() - began
        assert new > max(sent, default=0)
        assert len(set(sent)) == len(sent)
        assert drain(outbox) == [new]
        assert outbox.stats().state == "durable"
        print(f"seed {seed}: {len(sent)} of 300 rows kept, {took_s:.2f} s")
        assert took_s < 2
        outbox.close()

    @pytest.mark.parametrize("seed", range(8))
    def test_flipped_bytes_in_the_wal(self, tmp_path: Path, seed: int) -> None:
        """A damaged WAL costs at most its own commits: everything checkpointed is there."""
        chance = random.Random(seed)
        path = tmp_path / "live" / "outbox.sqlite3"
        outbox = Outbox(path, clock=CLOCK)
        for number in range(60):
            add(outbox, f"r{number}")
        copy = _as_a_crash_leaves_it(path, tmp_path / "copy")
        outbox.close()
        wal = copy.with_name(copy.name + "-wal")
        assert wal.stat().st_size > 0
        _flip(wal, chance, count=chance.choice((1, 8, 64)))
        outbox = Outbox(copy, clock=CLOCK)
        sent = drain(outbox)
        assert sent == list(range(1, len(sent) + 1))
        assert len(sent) >= 40
        assert add(outbox, "new") == len(sent) + 1
        outbox.close()

    def test_damage_while_it_runs_is_noticed_and_numbers_go_on(self, tmp_path: Path) -> None:
        """The pages under a running agent turn to rubbish: it goes on above the numbers it knows."""
        path = tmp_path / "outbox.sqlite3"
        outbox = Outbox(path, clock=CLOCK)
        for number in range(200):
            add(outbox, f"r{number}")
        outbox.close()
        outbox = Outbox(path, clock=CLOCK)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        numbers = [add(outbox, f"n{number}") for number in range(50)]
        assert numbers == list(range(201, 251))
        assert set(drain(outbox)) >= set(numbers)
        outbox.close()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def _filled(folder: Path, rows: int) -> Path:
    path = folder / "outbox.sqlite3"
    outbox = Outbox(path, clock=CLOCK)
    outbox.append(id="r0", kind="final", make_payload=lambda _: b"x" * 700)
    outbox.close()
    database = Database(path)
    with database.transaction():
        first = database.read_live(0, 1, ("final",))[0]
        import msgspec

        database.insert([msgspec.structs.replace(first, seq=n, id=f"r{n}") for n in range(2, rows + 1)])
        database.set_last_seq(rows)
    database.close()
    return path


def _flip(path: Path, chance: random.Random, *, count: int) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _as_a_crash_leaves_it(path: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in (path.name, path.name + "-wal"):
        (folder / name).write_bytes(path.with_name(name).read_bytes())
    return folder / path.name


def test_no_number_is_given_twice_though_all_rows_are_lost(tmp_path: Path) -> None:
    """Damage that takes the last rows with it, or the whole store: numbers go on behind those given."""
    path = tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, clock=CLOCK)
    assert [add(outbox, f"u{n}") for n in range(3)] == [1, 2, 3]
    outbox.close()
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        file.unlink(missing_ok=True)
    again = Outbox(path, clock=CLOCK)
    assert add(again, "v") == 4
    again.close()


@pytest.mark.parametrize(
    "written", [b"", b"12", b"not a number...\n", b"9" * 16 + b"\n", b"-000000000000001\n"]
)
def test_a_mark_that_makes_no_sense_is_passed_over(tmp_path: Path, written: bytes) -> None:
    """The database knows its own numbers."""
    path = tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, clock=CLOCK)
    add(outbox, "u")
    outbox.close()
    path.with_name(path.name + ".seq").write_bytes(written)
    again = Outbox(path, clock=CLOCK)
    assert add(again, "v") == 2
    again.close()
