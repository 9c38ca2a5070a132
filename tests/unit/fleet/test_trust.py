"""The attacks on a signed repository, by their names: nothing is ever accepted but what was signed, now."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, EdgeAgentError, NoMirror, Untrusted
from edge_agent.fleet import mirrors
from edge_agent.fleet.bundle import Target
from tests.unit.fleet.conftest import FILES, FIRST, SECOND, Fleet, tool


def edit(path: Path, change: object) -> None:
    """Change a signed document without signing it again."""
    body = json.loads(path.read_text())
    change(body["signed"])
    path.write_text(json.dumps(body))


def test_what_was_signed_arrives(fleet: Fleet) -> None:
    """The bundle's files, byte for byte."""
    assert fleet.get() == FILES


def test_rollback(fleet: Fleet) -> None:
    """A device that has seen a newer list takes no older one."""
    old = fleet.keep()
    fleet.add(SECOND)
    fleet.get(SECOND)
    with pytest.raises(Untrusted, match="timestamp"):
        fleet.get(FIRST, str(old))


def test_freeze(fleet: Fleet) -> None:
    """A list that is kept back beyond its days is refused, though every signature holds."""
    fleet.repository(days=-8).refresh()
    with pytest.raises(Untrusted, match="expired"):
        fleet.get()


def test_mix_and_match(fleet: Fleet) -> None:
    """Parts of two states do not make a third one."""
    older = fleet.keep()
    fleet.add(SECOND)
    shutil.copyfile(older / "metadata/2.targets.json", fleet.place / "metadata/3.targets.json")
    with pytest.raises(Untrusted):
        fleet.get(FIRST)


def test_fast_forward_of_an_unsigned_version(fleet: Fleet) -> None:
    """A version raised by hand breaks the signature."""
    edit(fleet.place / "metadata/timestamp.json", lambda signed: signed.update(version=2**40))
    with pytest.raises(Untrusted, match="signed"):
        fleet.get()


def test_wrong_signature(fleet: Fleet) -> None:
    """A digest changed in the list of bundles, signatures left as they were."""
    path = fleet.place / "metadata/2.targets.json"
    edit(path, lambda s: s["targets"][FIRST.path]["hashes"].update(sha256="0" * 64))
    with pytest.raises(Untrusted):
        fleet.get()


def test_unknown_key(fleet: Fleet, tmp_path: Path) -> None:
    """A whole repository that is right in itself, signed by somebody else."""
    strange = Fleet(tmp_path / "strange")
    tool.Repository.create(strange.place, tool.Keys(strange.home / "keys"))
    strange.add(FIRST)
    with pytest.raises(Untrusted, match="signed"):
        fleet.get(FIRST, str(strange.place))


def test_one_stolen_root_key_is_not_enough(fleet: Fleet) -> None:
    """Two of three must sign a new root; one key alone is refused, here and there."""
    for name in ("root-2.pem", "root-3.pem"):
        (fleet.home / "keys" / name).unlink()
    with pytest.raises(EdgeAgentError, match="2 keys of root are needed"):
        fleet.repository().rotate("targets")
    forged = fleet.repository()
    forged.root.version, forged.root.roles["root"].threshold = 2, 1
    forged._write("root")
    with pytest.raises(Untrusted):
        fleet.get()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_keys_can_be_rotated_in_the_field(fleet: Fleet, role: str) -> None:
    """A device follows the change of any key, and no longer takes what the old one signs."""
    fleet.get()
    fleet.repository().rotate(role)
    fleet.add(SECOND)
    assert fleet.get(SECOND) == FILES


def test_a_retired_key_signs_nothing_any_more(fleet: Fleet) -> None:
    """What the old targets key signs after the rotation is refused."""
    before = Fleet(fleet.home.parent / "thief")
    shutil.copytree(fleet.home, before.home)
    fleet.repository().rotate("targets")
    before.add(SECOND)
    shutil.copyfile(fleet.place / "metadata/2.root.json", before.place / "metadata/2.root.json")
    with pytest.raises(Untrusted):
        fleet.get(SECOND, str(before.place))


def test_what_was_removed_is_not_installed(fleet: Fleet) -> None:
    """A bundle taken off the list is gone, though its bytes are there."""
    fleet.repository().remove(FIRST)
    with pytest.raises(Untrusted, match="no signed model m 1"):
        fleet.get()


def test_another_bundles_document_under_this_name(fleet: Fleet) -> None:
    """A signed document that speaks of another bundle: the publisher's mistake is refused too."""
    fleet.add(SECOND)
    repository = fleet.repository()
    repository.targets.targets["model/x/1.json"] = repository.targets.targets[FIRST.path]
    repository._publish("targets")
    digest = repository.targets.targets[FIRST.path].hashes["sha256"]
    (fleet.place / "targets/model/x").mkdir()
    shutil.copyfile(
        fleet.place / f"targets/model/m/{digest}.1.json", fleet.place / f"targets/model/x/{digest}.1.json"
    )
    with pytest.raises(Untrusted, match="that of model m 1"):
        fleet.get(Target(name="x", version=1))


def chunks(fleet: Fleet) -> list[Path]:
    return sorted(path for path in (fleet.place / "chunks").rglob("*") if path.is_file())


def test_a_truncated_or_swapped_chunk(fleet: Fleet) -> None:
    """Chunks are known by their content: shorter, longer or exchanged ones are refused."""
    first, second = chunks(fleet)[:2]
    right = first.read_bytes()
    for wrong in (right[:-1], right + b"x", second.read_bytes(), b""):
        first.write_bytes(wrong)
        with pytest.raises(Untrusted):
            fleet.get()
    first.write_bytes(right)
    assert fleet.get() == FILES


def test_another_mirror_makes_good_what_one_spoils(fleet: Fleet) -> None:
    """A bad list or a bad chunk on one mirror costs nothing while another is right."""
    good = str(fleet.keep())
    for path in (fleet.place / "metadata/timestamp.json", chunks(fleet)[0]):
        path.write_bytes(b"rubbish")
    assert fleet.get(FIRST, "/nowhere", str(fleet.place), good) == FILES


def test_no_mirror_is_told_as_such(fleet: Fleet) -> None:
    """A stick that is not there is no attack."""
    with pytest.raises(NoMirror, match="/nowhere is not there"):
        fleet.get(FIRST, "/nowhere")
    with pytest.raises(ConfigError, match="no mirror"):
        fleet.get(FIRST, "ftp://example")


@pytest.mark.parametrize("times", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_thousand_flipped_bytes(fleet: Fleet, times: int) -> None:
    """One byte changed anywhere: refused, or harmless; never other files than were signed."""
    rng = random.Random(8)
    fleet.get()
    newest = [
        *(fleet.place / "metadata").glob("2.*"),
        fleet.place / "metadata/timestamp.json",
        *(fleet.place / "targets").rglob("*.json"),
        *chunks(fleet),
    ]
    refused = 0
    for _ in range(times):
        path = rng.choice(newest)
        right = path.read_bytes()
        wrong = bytearray(right)
        wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        path.write_bytes(wrong)
        for leftover in ("seen", "staging"):
            shutil.rmtree(fleet.home / leftover, ignore_errors=True)
        try:
            assert fleet.get() == FILES, f"{path} byte flipped: other files"
        except (Untrusted, NoMirror):
            refused += 1
        path.write_bytes(right)
    print(f"\n{times} flipped bytes: {refused} refused, {times - refused} without any effect, 0 taken")
    assert refused > 0.8 * times
    assert fleet.get() == FILES


class Endless(BaseHTTPRequestHandler):
    """Answers everything with a body that does not end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Static(SimpleHTTPRequestHandler):
    """A static web server that drops each third answer in the middle."""

    root, served = "", 0

    def __init__(self, *args: object) -> None:
        super().__init__(*args, directory=self.root)

    def copyfile(self, source: object, out: object) -> None:
        type(self).served += 1
        data = source.read()
        out.write(data[: len(data) // 2] if "/chunks/" in self.path and self.served % 5 == 0 else data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    """Starts web servers on loopback."""
    running = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_endless_data(fleet: Fleet, serve: object) -> None:
    """A server that never stops sending is left after the few bytes that there may be."""
    with pytest.raises(Untrusted, match="bytes"):
        fleet.get(FIRST, serve(Endless))


def test_a_broken_transfer_goes_on_where_it_stopped(
    fleet: Fleet, serve: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole chunks are kept from try to try; a hole that a power cut left in them is found."""
    monkeypatch.setattr(tool, "CHUNK_BYTES", 1024)
    content = {"model.bin": random.Random(1).randbytes(20_000), "config.json": b"{}"}
    fleet.add(SECOND, content)
    handler = type("Here", (Static,), {"root": str(fleet.place)})
    url, tries = serve(handler), 0
    while True:
        tries += 1
        try:
            assert fleet.get(SECOND, url) == content
            break
        except (NoMirror, Untrusted):
            grown = fleet.home / "staging/model.bin.partial"
            if grown.exists() and tries == 2:
                grown.write_bytes(b"\0" * 100 + grown.read_bytes()[100:])
        assert tries < 30
    assert 2 < tries < 30


@pytest.mark.parametrize("left", [b"", b"{", b"{}", b"{}x", b"\0\0"])
def test_what_a_cut_left_of_a_small_file_is_made_whole(fleet: Fleet, left: bytes) -> None:
    """Nothing, a part, all of it, more than it, zeros: afterwards it is what was signed, to the byte."""
    fleet.add(SECOND, {"model.bin": b"m", "config.json": b"{}"})
    (fleet.home / "staging").mkdir()
    (fleet.home / "staging/config.json.partial").write_bytes(left)
    assert fleet.get(SECOND) == {"model.bin": b"m", "config.json": b"{}"}


def test_a_drip_is_no_server(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, serve: object) -> None:
    """A mirror slower than two kilobytes a second counts as not there."""
    monkeypatch.setattr(mirrors, "SILENCE_S", 0.2)

    class Drip(Endless):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                try:
                    self.wfile.write(b" ")
                    threading.Event().wait(0.05)
                except OSError:
                    return

    monkeypatch.setattr(mirrors, "_SLOWEST_BYTES_PER_S", 1e9)
    with pytest.raises(NoMirror):
        fleet.get(FIRST, serve(Drip))
