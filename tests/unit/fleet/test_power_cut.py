"""The plug is pulled before any file operation of an activation: a working model, and the way goes on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_agent.backstage import Stage, stage
from edge_agent.fleet import activation
from edge_agent.fleet.bundle import Kind, Target
from edge_agent.fleet.keep import Keep
from edge_agent.fleet.places import activation_file
from edge_agent.shelf import Shelf
from tests.unit.fleet.conftest import Fleet

_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CUT, _DONE = 9, 0


_FILES = {
    "model": {"model.bin": b"old" * 5000, "config.json": b"{}"},
    "profile": {"m.toml": b'extends = "base"'},
    "engine": {
        "engine.manifest.json": b"{}",
        **{
            f"{side}/{name}": b"x"
            for side in ("encoder", "decoder")
            for name in ("config.json", "rank0.engine")
        },
    },
}


def keep(fleet: Fleet, kind: Kind) -> Keep:
    return Keep(activation_file(kind, fleet.home / "fleet"))


def shelf(fleet: Fleet) -> Shelf:
    return Shelf(fleet.home / "models", fleet.home / "fleet")


def activate(fleet: Fleet, target: Target) -> None:
    """All steps of the steward but the decoding, each written down before the next."""
    kept = keep(fleet, target.kind)
    kept.write(activation.started(kept.value, ""))
    kept.write(activation.want(kept.value, target))
    if kept.value.candidate is not None:
        job = Stage(
            target=target,
            root_file=str(fleet.home / "root.json"),
            mirrors=(str(fleet.place),),
            models_dir=str(fleet.home / "models"),
            fleet_dir=str(fleet.home / "fleet"),
        )
        stage(job)
        assert kept.write(activation.rehearse(kept.value))
        assert kept.write(activation.try_out(kept.value)), "a trial is never begun unwritten"
        assert kept.write(activation.passed(kept.value))
    shelf(fleet).clean_up((kept.value.current, kept.value.previous))


def in_a_child(fleet: Fleet, target: Target, cut_before: int) -> tuple[int, int]:
    """Activate in a forked process that ends before its n-th file operation; exit code, operations so far."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, args: tuple) -> None:
            nonlocal count
            writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITING
            if writes or event in _OPERATIONS:
                count += 1
                if count == cut_before:
                    os._exit(_CUT)

        code = 1
        try:
            os.close(reader)
            sys.addaudithook(hook)
            activate(fleet, target)
            code = _DONE
        finally:
            os.write(writer, str(count).encode())
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(said or 0)


def serving(fleet: Fleet, kind: Kind) -> Target | None:
    """What a start would serve, its bytes held against their digests."""
    current = keep(fleet, kind).value.current
    if current is not None:
        assert shelf(fleet).holds(current)
        if kind == "model":
            assert shelf(fleet).store.verify(current.store_name) == ()
    return current


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["model", "profile", "engine"])
def test_a_cut_between_any_two_file_operations(fleet: Fleet, every: int, kind: Kind) -> None:
    """Before: the old one, whole. After: the old or the new one, whole; and the next start finishes it."""
    first, second = (Target(name="m", version=version, kind=kind) for version in (11, 12))
    fleet.add(first, _FILES[kind])
    fleet.add(second, {name: content + b"\n" for name, content in _FILES[kind].items()})
    code, _ = in_a_child(fleet, first, 0)
    assert code == _DONE
    assert serving(fleet, kind) == first
    before = fleet.keep().parent / "device"
    for name in ("models", "fleet"):
        _copy(fleet.home / name, before / name)
    cuts, place = 0, every
    while True:
        code, operations = in_a_child(fleet, second, place)
        assert code in (_CUT, _DONE)
        assert serving(fleet, kind) in (first, second)
        if code == _DONE:
            break
        cuts += 1
        assert in_a_child(fleet, second, 0)[0] == _DONE, f"not mended after a cut before operation {place}"
        assert serving(fleet, kind) == second
        for name in ("models", "fleet"):
            _copy(before / name, fleet.home / name)
        place += every
    print(f"\n{cuts} cuts among {operations} file operations: a working model after each")
    assert operations > 30
    assert cuts == (operations - 1) // every or cuts == operations // every


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target, symlinks=True)
