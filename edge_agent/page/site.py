"""What the page consists of: its files, their types, the settings beside them, and the headers of answers."""

from __future__ import annotations

import ipaddress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edge_agent import __version__
from edge_agent.errors import UsageError
from edge_agent.files import write_atomically
from edge_agent.types import Value

SETTINGS = "settings.json"
WEBSOCKETS_PORT = 9001
"""Where brokers listen for websockets by habit."""
WEBSOCKETS_TLS_PORT = 8884
"""Where the broker listens for them whose configuration we ship."""
_SCHEMA = "page/1"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
}


class Settings(Value, frozen=True, kw_only=True):
    """settings.json, which the page reads first. Anybody may read it: it never holds a password."""

    schema: str = _SCHEMA
    broker: str
    """ws:// or wss:// address; empty: the page asks for it."""
    prefix: str
    locked: bool
    """The page connects to this broker and to no other one."""
    version: str = __version__


def broker_address(text: str) -> str:
    """A websocket address, checked.

    Raises:
        UsageError: another scheme, no host, a bad port, credentials, or what a header cannot carry.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f'--broker "{text}" is not a URL: {error}', remedy="use ws://host:9001") from error
    if parts.scheme not in ("ws", "wss") or not host:
        raise UsageError(
            f'--broker "{text}" is not a websocket address', remedy="use ws://host:9001 or wss://host:8884"
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--broker holds a user name or password", remedy="leave them out: the page asks whoever opens it"
        )
    if not text.isascii() or any(c in text for c in " ;,'\"\\#\t\r\n"):
        raise UsageError(f'--broker "{text}" holds characters that no address has', remedy="correct it")
    return text


def broker_beside(mqtt_url: str) -> str:
    """Where the broker of an mqtt:// or mqtts:// URL listens for websockets, if nobody says otherwise."""
    parts = urlsplit(mqtt_url)
    host = parts.hostname or "127.0.0.1"
    named = f"[{host}]" if ":" in host else host
    tls = parts.scheme == "mqtts"
    return f"wss://{named}:{WEBSOCKETS_TLS_PORT}" if tls else f"ws://{named}:{WEBSOCKETS_PORT}"


def files(settings: Settings) -> dict[str, bytes]:
    """Every file by its path below the root, for example "js/main.js"."""
    found: dict[str, bytes] = {}

    def gather(place: Traversable, before: str) -> None:
        for entry in sorted(place.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                gather(entry, f"{before}{entry.name}/")
            elif Path(entry.name).suffix in _TYPES:
                found[before + entry.name] = entry.read_bytes()

    gather(resources.files("edge_agent.page") / "static", "")
    found[SETTINGS] = msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"
    return found


def content_type(path: str) -> str:
    """Of a file of the page."""
    return _TYPES[Path(path).suffix]


def headers(settings: Settings, *, for_others: bool = False) -> dict[str, str]:
    """What every answer carries: no foreign script, no frame around it, no address told to anybody.

    Args:
        settings: with `locked`, the policy lets the page reach this broker alone.
        for_others: whether other machines open the page. A broker on loopback is then reached under the
            name by which they reached us, which only they know.
    """
    policy = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        f"connect-src 'self' {_reachable(settings, for_others=for_others)}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-cache",
    }


def _reachable(settings: Settings, *, for_others: bool) -> str:
    if not (settings.locked and settings.broker):
        return "ws: wss:"
    parts = urlsplit(settings.broker)
    if for_others and is_loopback(parts.hostname or ""):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://*{port}"
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def export(settings: Settings, directory: Path) -> list[str]:
    """Write the files for any web server; answers their paths.

    Raises:
        UsageError: the directory holds other files of these names, or cannot be written.
    """
    content = files(settings)
    try:
        ours = _is_earlier_export(directory)
        taken = [path for path in content if (directory / path).exists()]
        if taken and not ours:
            raise UsageError(
                f"{directory} already holds {taken[0]}, which is not of an earlier export",
                remedy="name an empty or new directory",
            )
        for path, body in content.items():
            write_atomically(directory / path, body)
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory} cannot be written: {error.strerror or error}",
            remedy="name a directory that can be written",
        ) from error
    return sorted(content)


def _is_earlier_export(directory: Path) -> bool:
    try:
        found = msgspec.json.decode((directory / SETTINGS).read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return isinstance(found, dict) and found.get("schema") == _SCHEMA
