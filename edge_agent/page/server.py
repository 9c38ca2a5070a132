"""A web server for a handful of files in memory: GET and HEAD, exact paths, nothing else."""

from __future__ import annotations

import errno
import hashlib
import logging
import socket
import socketserver
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self

from edge_agent.errors import UsageError
from edge_agent.page.site import content_type

_log = logging.getLogger(__name__)

_READ_S = 10.0
"""A client that says nothing for so long is let go."""
_AT_ONCE = 32
_METHODS = "GET, HEAD"


class PageServer:
    """Serves from `__enter__` to `__exit__`.

    Args:
        files: path below the root -> content. What is not named here cannot be had.
        headers: of every answer.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        UsageError: by the constructor, when the address cannot be listened on.
    """

    def __init__(
        self, files: Mapping[str, bytes], headers: Mapping[str, str], *, host: str, port: int
    ) -> None:
        try:
            self._server = _Server(files, headers, host, port)
        except (OSError, OverflowError) as error:
            raise UsageError(_why(host, port, error), remedy=_remedy(error)) from error
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="page", daemon=True
        )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - names, no bind
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answers on their way end with the process."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, files: Mapping[str, bytes], headers: Mapping[str, str], host: str, port: int) -> None:
        self.files, self.headers = dict(files), dict(headers)
        self.tags = {path: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for path, body in files.items()}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking a name server for our own name, as the one of the library does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each, up to a limit; beyond it they are turned away."""
        if self._places.acquire(timeout=1.0):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, on its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A client that went away in the middle is no failure of ours."""
        _log.debug("page: a request broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _READ_S
    server_version = "edge-agent"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body_too=True)

    def do_HEAD(self) -> None:
        self._answer(body_too=False)

    def _answer(self, *, body_too: bool) -> None:
        path = self.path.partition("?")[0].removeprefix("/") or "index.html"
        body = self.server.files.get(path)
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        tag = self.server.tags[path]
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._close_headers({"ETag": tag})
            return
        self.send_response(HTTPStatus.OK)
        self._close_headers(
            {"Content-Type": content_type(path), "Content-Length": str(len(body)), "ETag": tag}
        )
        if body_too:
            self.wfile.write(body)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - the library's signature
        explain: str | None = None,  # noqa: ARG002 - the library's signature
    ) -> None:
        """Plain text, without repeating what was asked for."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED
        body = f"{code} {HTTPStatus(code).phrase}\n".encode()
        self.send_response(code)
        more = {"Allow": _METHODS} if code == HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._close_headers(
            {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), **more}
        )
        if self.command != "HEAD":
            self.wfile.write(body)

    def _close_headers(self, more: Mapping[str, str]) -> None:
        for name, value in {**self.server.headers, **more, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """To our log, without the query: it may hold more than a log should."""
        _log.debug("page: %s", (format % args).partition("?")[0])


def _why(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OverflowError):
        return f"{port} is no port"
    assert isinstance(error, OSError)
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def _remedy(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EADDRINUSE, errno.EACCES):
        return "name another with --port (0 takes a free one)"
    return "correct --host and --port"
