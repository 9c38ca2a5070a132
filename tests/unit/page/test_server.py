"""The page's server: a few files, exactly those, with the right headers."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from edge_agent.errors import UsageError
from edge_agent.page import site
from edge_agent.page.server import PageServer

SETTINGS = site.Settings(broker="ws://127.0.0.1:9001", prefix="edge", locked=True)
FILES, HEADERS = site.files(SETTINGS), site.headers(SETTINGS)


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with PageServer(FILES, HEADERS, host="127.0.0.1", port=0) as running:
        yield running


def ask(
    server: PageServer, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_every_file_comes_whole_with_its_type(server: PageServer) -> None:
    """And with the headers that keep foreign code out."""
    types = {}
    for path, body in FILES.items():
        status, headers, got = ask(server, "GET", f"/{path}")
        assert (status, got) == (200, body), path
        assert HEADERS.items() <= headers.items(), path
        types[path.rpartition(".")[2]] = headers["Content-Type"]
    assert types == {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "json": "application/json",
        "svg": "image/svg+xml",
        "md": "text/plain; charset=utf-8",
    }


def test_the_root_is_the_page_whatever_is_asked_of_it(server: PageServer) -> None:
    """The query belongs to the page's own script."""
    for path in ("/", "/?device=a&caption=1", "/index.html"):
        assert ask(server, "GET", path)[2] == FILES["index.html"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/js/../../server.py",
        "/js/..%2f..%2fsite.py",
        "//etc/passwd",
        "/js/",
        "/js",
        "/index.html/",
        "/INDEX.HTML",
        "/%00",
        "/server.py",
        "/static/index.html",
        "*",
        "http://127.0.0.1/index.html",
        "/" + "a" * 5000,
    ],
)
def test_nothing_else_can_be_had(server: PageServer, path: str) -> None:
    """No directory, no neighbour, no file of the machine; the answer does not repeat the question."""
    status, headers, body = ask(server, "GET", path)
    assert (status, body) == (404, b"404 Not Found\n")
    assert HEADERS.items() <= headers.items()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "FOO"])
def test_only_reading_is_allowed(server: PageServer, method: str) -> None:
    """405, and what is allowed."""
    status, headers, _ = ask(server, method, "/index.html")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_and_unchanged_files_come_without_a_body(server: PageServer) -> None:
    """A browser asks again at each load, and is answered in few bytes."""
    status, headers, body = ask(server, "HEAD", "/page.css")
    assert (status, int(headers["Content-Length"]), body) == (200, len(FILES["page.css"]), b"")
    again = ask(server, "GET", "/page.css", {"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")


def test_it_does_not_say_what_it_is_made_of(server: PageServer) -> None:
    """No version of Python."""
    assert ask(server, "GET", "/")[1]["Server"].strip() == "edge-agent"


@pytest.mark.parametrize(
    "junk", [b"\x00\xff\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 50]
)
def test_junk_ends_only_its_own_connection(server: PageServer, junk: bytes) -> None:
    """TLS on the plain port, half requests: the next reader is served."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        while connection.recv(4096):
            pass
    assert ask(server, "GET", "/")[0] == 200


def test_slow_readers_do_not_keep_others_out(server: PageServer) -> None:
    """Twenty that say nothing, and one that asks."""
    idle = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(20)]
    try:
        began = time.monotonic()
        assert ask(server, "GET", "/")[0] == 200
        assert time.monotonic() - began < 2
    finally:
        for connection in idle:
            connection.close()


def test_a_taken_port_is_told_with_the_next_step(server: PageServer) -> None:
    """No traceback."""
    with pytest.raises(
        UsageError, match=f"port {server.port} of 127.0.0.1 is taken; name another with --port"
    ):
        PageServer(FILES, HEADERS, host="127.0.0.1", port=server.port)


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("127.0.0.1", 70_000), ("192.0.2.1", 0)])
def test_an_impossible_address_is_told(host: str, port: int) -> None:
    """Host or port."""
    with pytest.raises(UsageError):
        PageServer(FILES, HEADERS, host=host, port=port)


def test_it_ends_with_its_threads() -> None:
    """Also while somebody is connected."""
    with PageServer(FILES, HEADERS, host="127.0.0.1", port=0) as running:
        waiting = socket.create_connection(("127.0.0.1", running.port), 5)
        began = time.monotonic()
    waiting.close()
    assert time.monotonic() - began < 3
    assert "page" not in {thread.name for thread in threading.enumerate()} - {"page"}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.port), 1)


def test_ipv6_is_served_where_there_is_some() -> None:
    """--host ::1"""
    try:
        with PageServer(FILES, HEADERS, host="::1", port=0) as running:
            assert running.url == f"http://[::1]:{running.port}/"
            with socket.create_connection(("::1", running.port), 5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.recv(15) == b"HTTP/1.0 200 OK"
    except UsageError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
