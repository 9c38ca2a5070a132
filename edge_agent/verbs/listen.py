"""`edge-agent listen`: what a subscriber receives from one device or all of them."""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from edge_agent.errors import BrokerUnreachable
from edge_agent.verbs.common import Subparsers, add_config, config_path, say, verb

if TYPE_CHECKING:
    from edge_agent.mqtt.client import Connection
    from edge_agent.mqtt.settings import MqttSettings
    from edge_agent.verbs.listen_view import View

_ROUND_S = 0.5

_DESCRIPTION = """\
Subscribe to transcripts, gaps and presence, and show them until interrupted: live on a terminal (partials
change in place, finals stay), one line per message otherwise. The broker is the one of the configuration, or
the one named here. When it goes away, listening goes on once it is back.

With --json, every message is one line {"topic": ..., "payload": {...}}. With --validate, every message is
held against the published JSON Schema, and the exit code is 1 when one did not fit.
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
    )
    stop = threading.Event()
    _stop_on_signals(stop)
    with view:
        _listen(settings, arguments.device, view, stop, quiet=arguments.quiet)
    return 1 if view.invalid else 0


def _listen(settings: MqttSettings, device: str, view: View, stop: threading.Event, *, quiet: bool) -> None:
    from edge_agent.mqtt.backoff import delay_s

    connection = _open(settings, device)  # the first failure ends the command; later ones are waited out
    failures = 0
    while True:
        cause = _receive(connection, view, stop)
        if cause is None:
            connection.disconnect()
            return
        if not quiet:
            say(f"edge-agent: {cause}; connecting again")
        while not stop.is_set():
            failures += 1
            stop.wait(delay_s(failures, refused=False, jitter=random.random()))  # noqa: S311 - spreads load only
            try:
                connection = _open(settings, device)
            except BrokerUnreachable:
                continue
            failures = 0
            break
        else:
            return


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
        for event in connection.service(_ROUND_S):
            if isinstance(event, Message):
                view.message(event.topic, event.payload)
            elif isinstance(event, Lost):
                return event.cause
    return None


def _stop_on_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)
