"""Throws broken, hostile and almost right input at everything that reads messages; none may raise.

    python -m tests.fault.fuzz [--inputs 200000] [--seed 1] [--seconds 300] [--record] [TARGET...]

Each target gets its own share of real, mutated and generated inputs. What is not one of the reader's own
answers is a failure: printed with the input that caused it, exit code 1. Same seed, same inputs. With
--record the figures go to tests/fault/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable

from edge_agent.config import Config, with_values
from edge_agent.errors import ConfigError
from edge_agent.mqtt import commands, desired, wire
from edge_agent.mqtt.bridges import Bridges
from edge_agent.mqtt.bridges.hermes import Hermes
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.bridges.plain import Plain
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.gate import Gate, Moment
from edge_agent.mqtt.settings import endpoint
from tests.fault.results import record

NOW_MS = 1_795_179_600_000
TOPICS = wire.Topics("edge", "box")
ODD = (
    0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, 5e-324, True, False, None, "", "a", "0",
    "\0", "\x7f", "é" * 40, "塔吊", "\U0001f600", "../../etc/passwd", "$(reboot)", "x" * 5000, "auto", "en",
    "2026-11-20T13:00:00Z", "2026-11-20T13:00:00.123456789+14:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2016-12-31T23:59:60Z", [], {}, [[]], {"": {}}, ["x"], {"type": "restart"},
)  # fmt: skip
KEYS = ("schema", "command_id", "type", "args", "issued_at", "expires_at", "duration_s", "profile", "terms",
        "from_seq", "since", "model", "version", "desired", "siteId", "sessionId", "reason", "", "x",
        *(part for key in desired.ALLOWED for part in (*key.split("."), key)))  # fmt: skip


ARGS: dict[str, tuple[dict, ...]] = {
    "mute": ({}, {"duration_s": 5}, {"duration_s": 0.5}),
    "listen": ({}, {"duration_s": 0}, {"duration_s": 30, "channel": 0}),
    "set_profile": ({"profile": "auto"},),
    "reload_terms": ({}, {"terms": ["a", "塔吊"]}),
    "replay": ({"from_seq": 1}, {"since": "2026-11-20T13:00:00Z"}),
    "install_model": ({"model": "m", "version": 1},),
}


def command(rng: random.Random) -> dict:
    """Right."""
    kind = rng.choice(commands.TYPES)
    return {
        "schema": "command/1",
        "command_id": f"c-{rng.getrandbits(40)}",
        "type": kind,
        "args": rng.choice(ARGS.get(kind, ({},))),
        "issued_at": "2026-11-20T13:00:00Z",
        "expires_at": "2026-11-20T13:01:00Z",
    }


def document(rng: random.Random) -> dict:
    """Mostly right."""
    keys = rng.sample(desired.ALLOWED, rng.randint(0, 4))
    return {"version": rng.randint(1, 9), "desired": desired.nested({key: rng.choice(ODD) for key in keys})}


def toggle(rng: random.Random) -> dict:
    """Mostly right."""
    return {"siteId": "s", "sessionId": rng.choice([None, "a"]), "reason": rng.choice(["", "tts"])}


def tree(rng: random.Random, depth: int = 0) -> object:
    """Any JSON, with the keys that readers look at."""
    if depth > 3 or rng.random() < 0.4:
        return rng.choice(ODD)
    if rng.random() < 0.3:
        return [tree(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice(KEYS): tree(rng, depth + 1) for _ in range(rng.randint(0, 5))}


def changed(rng: random.Random, body: object) -> object:
    """The same with a few values or keys replaced, somewhere in the depth."""
    if isinstance(body, dict) and body:
        copy = dict(body)
        key = rng.choice(list(copy))
        if rng.random() < 0.5:
            copy[key] = changed(rng, copy[key])
        elif rng.random() < 0.3:
            del copy[key]
        elif rng.random() < 0.5:
            copy[rng.choice(KEYS)] = rng.choice(ODD)
        else:
            copy[key] = tree(rng, 2)
        return copy
    return rng.choice(ODD)


def mangled(rng: random.Random, payload: bytes) -> bytes:
    """Bytes cut, flipped, doubled, nested or put in."""
    data = bytearray(payload)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        how = rng.randrange(6)
        if how == 0 and data:
            data[at - 1] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at : at + rng.randint(1, 20)]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif how == 3:
            data[at:at] = data[: rng.randint(0, 200)]
        elif how == 4:
            data[at:at] = rng.choice(
                (b"[", b'{"a":', b'"', b"\\u", b"\\ud800", b"\xff", b"1e9")
            ) * rng.choice((1, 2, 9))
        else:
            data = data[:at]
    if rng.random() < 0.0005:
        data[0:0] = rng.choice((b"[", b'{"a":', b" ")) * 12_000
    return bytes(data)


def inputs(rng: random.Random, whole: Callable[[random.Random], dict]) -> bytes:
    """One input: right, changed, any JSON, mangled or noise."""
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.randint(0, 300))
    body: object = whole(rng) if kind < 0.85 else tree(rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        body = changed(rng, body)
    payload = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return mangled(rng, payload) if rng.random() < 0.3 else payload


class Targets:
    """Readers and what they may answer; each call does one input and tells whether it was taken."""

    def __init__(self) -> None:
        self.gate = Gate(started_ns=-(10**12))
        self.bridges = Bridges((Hermes("s"), HomeAssistant(TOPICS, site="", profiles=("p",)), Plain(TOPICS)))
        self.ticks = 0

    def commands(self, rng: random.Random) -> bool:
        read = commands.read(inputs(rng, command))
        if isinstance(read, commands.Refusal):
            wire.encode_answer(command_id=read.command_id, state=read.state, reason=read.reason)
            return False
        self.ticks += 1
        now = Moment(
            utc_ms=NOW_MS + rng.choice((0, 1000, 10**6, -(10**6))),
            monotonic_ns=self.ticks * 10**9,
            synced=rng.random() < 0.5,
        )
        return self.gate.admit(read, now) is None

    def config(self, rng: random.Random) -> bool:
        read = desired.read(inputs(rng, document))
        if isinstance(read, desired.Unreadable):
            return False
        judged = desired.judge(Config(), read, lambda base, values: with_values(base, values, "fuzz"))
        wire.encode_config(version=read.version, reported={}, rejected=judged.rejected)
        return bool(judged.accepted)

    def bridge(self, rng: random.Random) -> bool:
        topic = rng.choice((*self.bridges.filters, "hermes/asr/x"))
        return bool(
            self.bridges.incoming(
                Message(topic=topic, payload=inputs(rng, toggle), retain=rng.random() < 0.1)
            )
        )

    def topics(self, rng: random.Random) -> bool:
        parts = [
            rng.choice(
                ("edge", "box", "up", "down", "status", "transcript", "final", "+", "#", "", "é", "\0")
            )
            for _ in range(rng.randint(0, 6))
        ]
        text = mangled(rng, "/".join(parts).encode()).decode("utf-8", "replace")
        found = wire.parse_topic(rng.choice(("edge", "", "a/b", text)), text)
        try:
            wire.Topics(text, "box")
            wire.Topics("edge", text)
            endpoint(rng.choice(("mqtt://", "mqtts://", "")) + text)
        except ConfigError:
            return found is not None
        return True


def main(arguments: list[str] | None = None) -> int:
    """Run; 1 when something raised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=200_000, help="for each target")
    parser.add_argument("--seconds", type=float, default=300.0, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--record", action="store_true", help="write the figures down")
    parser.add_argument("targets", nargs="*", help="commands, config, bridge, topics; default: all")
    options = parser.parse_args(arguments)
    failures = 0
    for name in options.targets or ("commands", "config", "bridge", "topics"):
        failures += hammer(name, options.inputs, options.seconds, options.seed, written=options.record)
    return 1 if failures else 0


def hammer(name: str, count: int, seconds: float, seed: int, *, written: bool = False) -> int:
    """One target; the number of failures."""
    read = getattr(Targets(), name)
    done = taken = failures = 0
    slowest_s, began = 0.0, time.perf_counter()
    while done < count and time.perf_counter() - began < seconds and failures < 5:
        rng = random.Random(f"{seed}-{name}-{done}")
        started = time.thread_time()
        try:
            taken += read(rng)
        except Exception:
            failures += 1
            print(f"{name}: input {done} of seed {seed} raised", file=sys.stderr)
            traceback.print_exc()
        slowest_s = max(slowest_s, time.thread_time() - started)
        done += 1
    spent_s = time.perf_counter() - began
    print(
        f"{name}: {done} inputs (seed {seed}), {failures} uncaught, {taken / max(1, done):.0%} taken,"
        f" {spent_s / max(1, done) * 1e6:.0f} us each with making them, slowest {slowest_s * 1e3:.1f} CPU ms"
    )
    if written:
        record(
            f"fuzz-{name}",
            f"Fuzz: {name}",
            {
                "inputs": done,
                "uncaught errors": failures,
                "taken": f"{taken / max(1, done):.0%}",
                "seconds": round(spent_s),
                "slowest, with making it, CPU ms": round(slowest_s * 1e3, 1),
            },
            seed=seed,
        )
    return failures


if __name__ == "__main__":
    sys.exit(main())
