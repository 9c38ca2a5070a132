"""`edge-agent page`: the fleet page for a browser, served here or written out for another web server."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edge_agent.verbs.common import Subparsers, add_config, add_json, config_path, print_json_line, say, verb

if TYPE_CHECKING:
    from edge_agent.page.site import Settings

DEFAULT_PORT = 8070

_DESCRIPTION = """\
Serve the fleet page until interrupted: a table of all devices, and live captions for a screen. The page is a
few static files; the browser itself speaks MQTT 5 to the broker, by websockets. Nothing passes through here.

  /                              the table: states, latencies, temperatures; one device's history and words
  /?device=ID&caption=1          captions of one device, large, white on black (also without device: of all)
  /?device=ID&caption=1&size=1.5 half as large again

The page reads. Only after its switch "Read only" was turned do buttons appear that mute a device or make it
test itself, and the broker decides whether the login may. The page asks for name and password when the broker
wants them, and keeps them in the browser's tab. Kiosks without a keyboard log in by a client certificate.

The broker needs a listener for websockets (mosquitto: `listener 9001` and `protocol websockets`; with TLS:
provisioning/mosquitto). Without --broker its address is taken from mqtt.url: ws://HOST:9001, or for mqtts://
wss://HOST:8884. The page may then reach this broker and no other; `--broker any` lets the reader name one
(also by ?broker=ws://host:port in the address).

Only this machine can open the page unless --host says otherwise. Do not serve logins to a network without
TLS: write the files out with --export and put them on your web server.
"""

_EXAMPLES = """\
examples:
  edge-agent page                                        the page for the configured broker
  edge-agent page --broker wss://broker.example:8884     for another one
  edge-agent page --export /var/www/fleet                for nginx, Caddy, Apache, ...

exit codes: 0 ended by SIGINT or SIGTERM, 2 wrong usage or port taken, 78 bad configuration
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "page", "serve the fleet page: devices and live captions", _DESCRIPTION)
    parser.epilog = _EXAMPLES
    add_config(parser)
    parser.add_argument("--broker", metavar="URL", help="ws://host:port, wss://host:port, or any")
    parser.add_argument("--prefix", metavar="NAME", help="first part of the topics (default: mqtt.prefix)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen on this address (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        metavar="N",
        help="listen on this port (default: %(default)s)",
    )
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the files into DIR and end")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve or export."""
    from edge_agent.page import site

    settings = settings_from_args(arguments)
    if arguments.export is not None:
        return _export(arguments, settings)
    return _serve(arguments, settings, for_others=not site.is_loopback(arguments.host))


def settings_from_args(arguments: argparse.Namespace) -> Settings:
    """What the page is told.

    Raises:
        ConfigError: the configuration or the prefix is wrong.
        UsageError: the broker's address is none.
    """
    from edge_agent import config as configuration
    from edge_agent.mqtt.settings import endpoint
    from edge_agent.mqtt.wire import check_prefix
    from edge_agent.page import site

    table = configuration.load(config_path(arguments.config), arguments.overrides).mqtt
    prefix = table.prefix if arguments.prefix is None else arguments.prefix
    check_prefix(prefix)
    if arguments.broker == "any":
        return site.Settings(broker="", prefix=prefix, locked=False)
    if arguments.broker is not None:
        broker = site.broker_address(arguments.broker)
    else:
        endpoint(table.url)
        broker = site.broker_beside(table.url)
    return site.Settings(broker=broker, prefix=prefix, locked=True)


def _export(arguments: argparse.Namespace, settings: Settings) -> int:
    from edge_agent.page import site

    written = site.export(settings, arguments.export)
    headers = site.headers(settings, for_others=True)
    if arguments.json:
        print_json_line({"directory": str(arguments.export), "files": written, "headers": headers})
    else:
        sys.stdout.write(
            f"{len(written)} files in {arguments.export}; let the web server add these headers:\n"
        )
        sys.stdout.writelines(f"  {name}: {value}\n" for name, value in headers.items())
    return 0


def _serve(arguments: argparse.Namespace, settings: Settings, *, for_others: bool) -> int:
    from edge_agent.page import site
    from edge_agent.page.server import PageServer

    stop = threading.Event()
    _stop_on_signals(stop)
    content, headers = site.files(settings), site.headers(settings, for_others=for_others)
    with PageServer(content, headers, host=arguments.host, port=arguments.port) as server:
        if arguments.json:
            print_json_line({"url": server.url, "broker": settings.broker, "prefix": settings.prefix})
        else:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
        if not arguments.quiet:
            say(f"edge-agent: the page listens to {settings.broker or 'the broker its reader names'}")
            if for_others:
                say(
                    "edge-agent: served without TLS to the network; see --export for a web server that has it"
                )
        while not stop.wait(3600):
            pass
    return 0


def _stop_on_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
