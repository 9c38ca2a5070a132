"""Small models, a web server that misbehaves on demand, and packages that carry model files."""

from __future__ import annotations

import hashlib
import random
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from edge_agent.models.catalog import CatalogFile, CatalogModel, Source


def small_files(size: int = 300_000) -> dict[str, bytes]:
    """A model.bin of `size` random bytes, and a config.json."""
    return {"model.bin": random.Random(size).randbytes(size), "config.json": b"{}"}


def small_model(files: dict[str, bytes], *sources: Source, name: str = "small") -> CatalogModel:
    """A catalogue entry for these bytes."""
    entries = tuple(
        CatalogFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in files.items()
    )
    return CatalogModel(name=name, licence="MIT", description="for tests", files=entries, sources=sources)


def write_dir(files: dict[str, bytes], directory: Path) -> Path:
    """The files in a directory."""
    directory.mkdir(parents=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)
    return directory


def write_wheel(directory: Path, package: str, members: dict[str, bytes]) -> int:
    """A wheel pip accepts, version 1.0; returns its size."""
    directory.mkdir(parents=True, exist_ok=True)
    base = package.replace("-", "_")
    path = directory / f"{base}-1.0-py3-none-any.whl"
    info = f"{base}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, data in members.items():
            box.writestr(name, data)
        box.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        box.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        box.writestr(f"{info}/RECORD", "")
    return path.stat().st_size


class WebServer:
    """Serves bytes by name, notes what was asked, and can cut connections, crawl, or ignore ranges."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[tuple[str, str]] = []
        """Path and Range header of each request."""
        self.cut_after: list[int] = []
        """Bytes after which each of the next answers is cut off."""
        self.honours_ranges = True
        self.hold = threading.Event()
        """Set: answers stop after 64 kB and wait until it is cleared or the test ends."""
        self.url = ""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[WebServer]:
    """A running server on loopback."""
    state = WebServer(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.requests.append((self.path, asked))
            data = state.files.get(self.path.rsplit("/", 1)[-1])
            if data is None:
                self.send_error(404)
                return
            match = re.fullmatch(r"bytes=(\d+)-", asked)
            start = int(match[1]) if match and state.honours_ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self._send(data[start:])

        def _send(self, body: bytes) -> None:
            cut = state.cut_after.pop(0) if state.cut_after else len(body)
            if state.hold.is_set() and len(body) > 65536:
                self.wfile.write(body[:65536])
                self.wfile.flush()
                while state.hold.is_set():
                    threading.Event().wait(0.02)
                cut = 0
            self.wfile.write(body[:cut])
            if cut < len(body):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.hold.clear()
        server.shutdown()
        thread.join(5)
        server.server_close()
