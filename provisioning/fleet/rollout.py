#!/usr/bin/env python3
"""Bring a signed bundle to a fleet in rings: 1, 10, 50, 100 %. It talks MQTT only, to any broker.

    rollout.py NAME VERSION --state FILE --url mqtts://broker:8883 --ca-file ca.crt --cert-file fleet.crt ...

It writes the desired configuration of each device (fleet.model and fleet.model_version, or with --kind those
of a profile or an engine; other keys stay as they are), reads what the devices say of themselves (up/info,
up/health, up/status), and goes on to the next ring when one is complete and well. It stops when more than 5 %
of a ring failed, or when the changed devices became slower or reject more: those that failed went back by
themselves, the others keep the new one, nobody else is told.

Ended and started again with the same FILE it goes on where it was. Devices that are away are told by the
broker when they return. Exit code: 0 done, 1 stopped, 3 ended before (with --once or a signal)."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import BrokerUnreachable, EdgeAgentError, UsageError
from edge_agent.files import write_atomically
from edge_agent.fleet import rings
from edge_agent.fleet.bundle import Kind, Target, valid_name
from edge_agent.fleet.rings import Rollout, Rules, View
from edge_agent.mqtt.settings import MqttSettings, endpoint, password, tls_context

_FILTERS = ("up/info", "up/health", "up/status", "down/config")
_TOLD_AGAIN_S = 5.0
_PER_LOOK = 100
"""Devices told at most at one look: a broker has other things to do."""
_QUIET_S = 2.0
"""Without another retained message for so long, all of them have come."""


class Fleet:
    """What the broker knows of all devices, kept up to date by a thread of the library."""

    def __init__(self, settings: MqttSettings, prefix: str, client_id: str) -> None:
        self._prefix, self._lock = prefix, threading.Lock()
        self._bodies: dict[str, dict[str, Any]] = {}
        self._told: dict[str, float] = {}
        self._standing: set[str] = set()
        """Devices whose desired configuration was seen on the broker since the last connection."""
        self._last = time.monotonic()
        self.connected = threading.Event()
        where = endpoint(settings.url)
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        if settings.username:
            client.username_pw_set(settings.username, password(settings))
        if where.tls:
            client.tls_set_context(tls_context(settings))
        client.reconnect_delay_set(1, 30)
        client.max_inflight_messages_set(200)
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_disconnect = lambda *_: self.connected.clear()
        try:
            client.connect(where.host, where.port, keepalive=30)
        except OSError as error:
            raise BrokerUnreachable(
                f"no connection to the broker at {settings.url} ({error})",
                remedy="check --url and the broker",
            ) from error
        client.loop_start()
        self._client = client

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: Any, *_: object
    ) -> None:
        if reason.is_failure:
            return
        client.subscribe([(f"{self._prefix}/+/{name}", SubscribeOptions(qos=1)) for name in _FILTERS])
        with self._lock:
            # A broker that was restarted may have lost what it had acknowledged: look what stands there.
            self._standing.clear()
            self._told.clear()
            self._last = time.monotonic()
        self.connected.set()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        device, _, kind = message.topic.removeprefix(f"{self._prefix}/").partition("/")
        try:
            body = json.loads(message.payload) if message.payload else {}
        except ValueError:
            return
        if isinstance(body, dict):
            with self._lock:
                self._bodies.setdefault(device, {})[kind] = body
                if kind == "down/config":
                    self._standing.add(device)
                if message.retain:
                    self._last = time.monotonic()

    @property
    def settled(self) -> bool:
        """Connected, and the retained messages have come."""
        return self.connected.is_set() and time.monotonic() - self._last > _QUIET_S

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait for the retained messages of all devices.

        Raises:
            BrokerUnreachable: none came, for there was no connection.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.settled:
                return
            time.sleep(0.1)
        if not self.connected.is_set():
            raise BrokerUnreachable("the broker does not let us in", remedy="check name and permissions")

    def views(self, kind: Kind) -> dict[str, View]:
        """Each device that ever said what it is, and how far it is with a kind of bundle."""
        with self._lock:
            return {
                device: _view(bodies, kind, stands=device in self._standing)
                for device, bodies in self._bodies.items()
                if "up/info" in bodies
            }

    def tell(self, device: str, target: Target) -> None:
        """Put the target into its desired configuration; nothing while the last try may be on its way."""
        now = time.monotonic()
        if now - self._told.get(device, -_TOLD_AGAIN_S) < _TOLD_AGAIN_S:
            return
        self._told[device] = now
        with self._lock:
            document = self._bodies.get(device, {}).get("down/config", {})
        desired = dict(document.get("desired") or {})
        desired["fleet"] = {**(desired.get("fleet") or {}), **_wish(target)}
        body = {"version": int(document.get("version") or 0) + 1, "desired": desired}
        self._client.publish(f"{self._prefix}/{device}/down/config", json.dumps(body), qos=1, retain=True)


def _wish(target: Target) -> dict[str, object]:
    return {target.kind: target.name, f"{target.kind}_version": target.version}


def _view(bodies: dict[str, Any], kind: Kind, *, stands: bool) -> View:
    """One device; whatever a strange one publishes makes an ordinary view."""
    try:
        told = bodies["up/info"].get("fleet") or {}
        told = told if kind == "model" else told.get(kind) or {}
        health = bodies.get("up/health", {}).get("recognition") or {}
        rejected = sum((health.get("rejected") or {}).values())
        heard = int(health.get("finals") or 0) + rejected
        return View(
            online=bodies.get("up/status", {}).get("state", "offline") not in ("offline", "stopped"),
            wanted=_target(told.get("wanted"), kind, "version"),
            state=str(told.get("state", "")),
            reason=str(told.get("reason", ""))[:300],
            p95_ms=float(health.get("latency_p95_ms") or 0),
            rejects=rejected / heard if heard else 0.0,
            desired=_target(_desired(bodies).get("fleet"), kind, f"{kind}_version") if stands else None,
        )
    except (TypeError, ValueError, AttributeError):
        return View()


def _desired(bodies: dict[str, Any]) -> dict[str, Any]:
    return bodies.get("down/config", {}).get("desired") or {}


def _target(told: Any, kind: Kind, version: str) -> Target | None:
    if not told or not told.get(kind):
        return None
    return Target(name=str(told[kind]), version=int(told.get(version) or 0), kind=kind)


def load(path: Path, target: Target) -> Rollout | None:
    """The roll-out of a file; None when it is not begun.

    Raises:
        UsageError: the file cannot be read, or is another roll-out's.
    """
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Rollout)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error})", remedy="name another --state") from error
    if kept.target != target:
        raise UsageError(f"{path} is the roll-out of {kept.target}", remedy="name another --state")
    return kept


def run(
    fleet: Fleet,
    target: Target,
    path: Path,
    rules: Rules,
    stop: threading.Event,
    *,
    again: bool,
    look_s: float,
) -> Rollout:
    """Until it is done, stopped or told to end; every change is on disk before anybody is told."""
    fleet.settle()
    state = load(path, target) or rings.begin(target, fleet.views(target.kind))
    if not state.order:
        raise UsageError("no device on this broker says what it is", remedy="check --prefix and permissions")
    if again and state.phase == "stopped":
        state = msgspec.structs.replace(state, phase="running", reason="")
    shown = ""
    while True:
        views, now_ms = fleet.views(target.kind), time.time_ns() // 1_000_000
        if fleet.settled:
            after, tell = rings.advance(state, views, now_ms, rules)
        else:
            after, tell = state, ()  # nothing is judged by what may have changed meanwhile
        if after != state or not path.exists():
            write_atomically(path, msgspec.json.encode(after))
            state = after
        for device in tell[:_PER_LOOK]:
            fleet.tell(device, target)
        shown = _show(rings.summary(state, views, now_ms, rules), shown)
        if state.phase != "running" or stop.wait(look_s):
            return state


def _show(told: dict[str, object], shown: str) -> str:
    counts = "{done} done, {failed} failed, {open} open, {away} away".format(**told)
    line = "ring {ring}/{rings}: {in_ring} devices, ".format(**told) + counts
    if line != shown:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
    return line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("version", type=int)
    parser.add_argument("--kind", choices=("model", "profile", "engine"), default="model")
    parser.add_argument("--state", type=Path, required=True, help="file that outlives this programme")
    parser.add_argument("--url", default="mqtt://127.0.0.1:1883")
    for name in ("ca", "cert", "key", "password"):
        parser.add_argument(f"--{name}-file", default="")
    parser.add_argument("--username", default="")
    parser.add_argument("--prefix", default="edge")
    parser.add_argument("--rings", default="1,10,50,100", help="shares of the fleet in %%, growing")
    parser.add_argument("--max-failures", type=float, default=5.0, help="%% of a ring")
    parser.add_argument("--soak-min", type=float, default=10.0, help="how long a complete ring is watched")
    parser.add_argument("--deadline-min", type=float, default=120.0, help="for a device's answer")
    parser.add_argument("--again", action="store_true", help="go on after a stop")
    parser.add_argument("--once", action="store_true", help="look once, tell whom to tell, end")
    parser.add_argument("--look-s", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    return parser


def _rules(args: argparse.Namespace) -> Rules:
    try:
        shares = tuple(float(share) / 100 for share in args.rings.split(","))
    except ValueError:
        shares = ()
    if not shares or sorted(set(shares)) != list(shares) or shares[0] <= 0 or shares[-1] > 1:
        raise UsageError(f"--rings {args.rings}", remedy="give growing shares in %, such as 1,10,50,100")
    return Rules(
        rings=shares,
        failures=args.max_failures / 100,
        soak_s=args.soak_min * 60,
        deadline_s=args.deadline_min * 60,
    )


def _do(args: argparse.Namespace) -> int:
    if not valid_name(args.name) or args.version < 1:
        raise UsageError(f"{args.name} {args.version} is no bundle", remedy="see: repository.py show")
    target = Target(name=args.name, version=args.version, kind=args.kind)
    rules, stop = _rules(args), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = MqttSettings(
        url=args.url,
        ca_file=args.ca_file,
        cert_file=args.cert_file,
        key_file=args.key_file,
        username=args.username,
        password_file=args.password_file,
    )
    if args.once:
        stop.set()
    fleet = Fleet(settings, args.prefix, f"rollout-{args.kind}-{args.name}-{args.version}")
    try:
        state = run(fleet, target, args.state, rules, stop, again=args.again, look_s=args.look_s)
        time.sleep(0.5 if args.once else 0)
        told = rings.summary(state, fleet.views(target.kind), time.time_ns() // 1_000_000, rules)
    finally:
        fleet.close()
    if args.json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        counts = f"{told['done']} done, {told['failed']} failed of {told['devices']}"
        print(f"{state.phase}: {counts}. {state.reason}".strip())
    return {"done": 0, "stopped": 1}.get(state.phase, 3)


def main() -> int:
    """Do it; a user's mistake is one line."""
    try:
        return _do(_parser().parse_args())
    except EdgeAgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
