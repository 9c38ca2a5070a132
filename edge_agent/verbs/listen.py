"""`edge-agent listen`: what a subscriber receives from one device or all of them."""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from edge_agent.errors import BrokerUnreachable
from edge_agent.verbs.common import Subparsers, add_config, config_path, verb

if TYPE_CHECKING:
    from edge_agent.mqtt.client import Connection
    from edge_agent.mqtt.settings import MqttSettings
    from edge_agent.verbs.listen_view import View

_DESCRIPTION = """\
Subscribe to transcripts, gaps and presence, and show them until interrupted.

On a terminal the view is live. Finals, gaps and changes of state stay, a line each. Below them change in
place: each device's state and level, and what is being said: words that will not change are bright, the tail
that still may is dim (without colour: in [brackets]). Levels are as old as the device's last gauges, a minute
at most, or mqtt.health_interval_s in its configuration. Times are UTC. Where there are more devices than fit,
those that spoke last are shown. A message that comes twice is shown once; one that comes after later ones is
marked as late or replayed. NO_COLOR and TERM=dumb are respected. In the locale C all is ASCII, and words in
other letters are escaped: set LANG=C.UTF-8.

Into a file or pipe goes one line per final, gap and change of state.

With --json, every message is one line {"topic": ..., "payload": {...}}. With --raw, it is the topic, a space
and the payload, byte for byte into a pipe; on a terminal what it would obey is escaped. With --validate,
every message is held against the published JSON Schema, and the exit code is 1 when one did not fit.

The broker is the one of the configuration, or the one named here. When it goes away, listening goes on once
it is back. Ctrl-C ends; a second one does not wait for a connection that is being made.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "listen", "show what subscribers receive", _DESCRIPTION)
    parser.add_argument("--device", metavar="ID", default="all", help="device to listen to (default: all)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="topic and payload as received, one line each")
    form.add_argument("--json", action="store_true", help="one JSON object per message and line")
    parser.add_argument("--validate", action="store_true", help="hold each payload against its schema")
    add_config(parser)
    broker = parser.add_argument_group("broker (default: from the configuration)")
    broker.add_argument("--url", metavar="URL", help="mqtt://host:1883, or mqtts://host:8883 for TLS")
    broker.add_argument("--prefix", metavar="NAME", help="first part of the topics")
    broker.add_argument("--username", metavar="NAME", help="login")
    broker.add_argument("--password-file", metavar="FILE", help="file whose first line is the password")
    broker.add_argument("--ca-file", metavar="FILE", help="CA of the broker's certificate")
    broker.add_argument("--cert-file", metavar="FILE", help="our certificate")
    broker.add_argument("--key-file", metavar="FILE", help="its key")
    parser.set_defaults(run=run)


def settings_from_args(arguments: argparse.Namespace) -> MqttSettings:
    """The configuration's [mqtt] table with the options of the command line over it.

    Raises:
        ConfigError: the configuration, the URL or the prefix is wrong.
    """
    import msgspec

    from edge_agent import config as configuration
    from edge_agent.mqtt.settings import MqttSettings, endpoint
    from edge_agent.mqtt.wire import check_prefix

    table = configuration.load(config_path(arguments.config), arguments.overrides).mqtt
    named = ("url", "prefix", "username", "password_file", "ca_file", "cert_file", "key_file")
    given = {name: getattr(arguments, name) for name in named if getattr(arguments, name) is not None}
    settings = MqttSettings(**{**msgspec.structs.asdict(table), **given})
    endpoint(settings.url)
    check_prefix(settings.prefix)
    return settings


def run(arguments: argparse.Namespace) -> int:
    """Show messages until SIGINT or SIGTERM."""
    from edge_agent.verbs.listen_view import make_view

    settings = settings_from_args(arguments)
    view = make_view(
        prefix=settings.prefix,
        form="json" if arguments.json else "raw" if arguments.raw else "text",
        validate=arguments.validate,
        where=settings.url,
        quiet=arguments.quiet,
    )
    stop = threading.Event()
    _stop_on_signals(stop)
    connection = _open(settings, arguments.device)  # the first failure ends the command
    with view:
        _listen(connection, settings, arguments.device, view, stop)
    return 1 if view.invalid else 0


def _listen(
    opened: Connection, settings: MqttSettings, device: str, view: View, stop: threading.Event
) -> None:
    connection: Connection | None = opened
    while connection is not None:
        cause = _receive(connection, view, stop)
        if cause is None:
            connection.disconnect()
            return
        view.lost(cause)
        connection = _open_again(settings, device, view, stop)


def _open_again(settings: MqttSettings, device: str, view: View, stop: threading.Event) -> Connection | None:
    """Later failures are waited out; None when told to stop."""
    from edge_agent.mqtt.backoff import delay_s

    failures = 0
    while not stop.is_set():
        failures += 1
        again_s = time.monotonic() + delay_s(failures, refused=False, jitter=random.random())  # noqa: S311 - spreads load only
        while (left_s := again_s - time.monotonic()) > 0 and not stop.is_set():
            view.tick()
            stop.wait(min(left_s, view.round_s))
        if stop.is_set():
            return None
        try:
            connection = _open(settings, device)
        except BrokerUnreachable:
            continue
        view.back()
        return connection
    return None


def _open(settings: MqttSettings, device: str) -> Connection:
    from edge_agent.mqtt.client import Connection

    # An id of its own each time: two listeners with one id would throw each other out.
    connection = Connection(settings, client_id=f"listen-{os.urandom(6).hex()}")
    connection.connect()
    connection.subscribe(f"{settings.prefix}/{'+' if device == 'all' else device}/up/#")
    return connection


def _receive(connection: Connection, view: View, stop: threading.Event) -> str | None:
    """Show what comes; None when told to stop, else why the connection ended.

    Raises:
        BrokerRefused: the broker does not permit the subscription.
    """
    from edge_agent.mqtt.client import Lost, Message

    while not stop.is_set():
        for event in connection.service(view.round_s):
            if isinstance(event, Message):
                view.message(event.topic, event.payload, retained=event.retain)
            elif isinstance(event, Lost):
                return event.cause
        view.tick()
    return None


def _stop_on_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
