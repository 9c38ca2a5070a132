#!/usr/bin/env python3
"""Prints each final and gap once, and says which numbers never came.

    subscriber.py HOST [--port 1883] [--device ID] [--name reader-1]
                  [--ca-file ca.crt --cert-file reader-1.crt --key-file reader-1.key]

Needs paho-mqtt 2 (pip install paho-mqtt). What it shows about subscribing:
- a fixed client id and a session that the broker keeps, so that finals wait while this programme is away;
- QoS 1 delivers at least once, so an `id` that was seen is dropped;
- finals and gaps share one `seq` without holes. After an outage what is said now comes before what waited,
  so a number is missing only when it has not come after a while; a gap of cause "quota" names those that
  never will.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import OrderedDict

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

REMEMBERED = 100_000  # ids; a programme that must not repeat itself after a restart keeps them on disk


class Ledger:
    """What was seen of all devices."""

    def __init__(self):
        self._ids, self._highest, self._missing = OrderedDict(), {}, {}
        self._lock = threading.Lock()  # messages come on a thread of paho's

    def is_new(self, device, body):
        """False for what was delivered before; otherwise its number is noted."""
        with self._lock:
            return self._note(device, body)

    def _note(self, device, body):
        if body["id"] in self._ids:
            return False
        self._ids[body["id"]] = True
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        seq = body["seq"]
        highest = self._highest.setdefault(device, seq - 1)  # the first that is heard begins the count
        for absent in range(highest + 1, seq):
            self._missing[device, absent] = time.monotonic()
        self._highest[device] = max(highest, seq)
        given_up = range(body.get("from_seq", 0), body.get("to_seq", -1) + 1)
        for known in (seq, *given_up):
            self._missing.pop((device, known), None)
        return True

    def overdue(self, patience_s):
        """(device, seq) that did not come in time, each told once."""
        with self._lock:
            late = [key for key, since in self._missing.items() if time.monotonic() - since > patience_s]
            for key in late:
                del self._missing[key]
        return late


def show(ledger, prefix, message):
    """One line for a message that is new."""
    device, _, name = message.topic[len(prefix) + 1 :].partition("/up/")
    body = json.loads(message.payload)
    if name == "status":
        print(f"{device} is {body['state']}", *body["reasons"], sep="; ", flush=True)
    elif not ledger.is_new(device, body):
        return
    elif name == "gap":
        print(f"{device} {body['seq']}: {body['duration_ms']} ms not heard, {body['cause']}", flush=True)
    elif body["text"]:  # a final without words takes back what its partials showed
        print(f"{device} {body['seq']}: {body['text']}", flush=True)


def client_of(given, ledger):
    """A client that subscribes at each connect."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=given.name, protocol=mqtt.MQTTv5)
    names = ("transcript/final", "gap", "status")
    topics = [(f"{given.prefix}/{given.device}/up/{name}", 1) for name in names]

    def on_connect(_client, _data, _flags, reason, _properties):
        if reason.is_failure:
            print(f"the broker refuses: {reason}", file=sys.stderr)
        else:
            client.subscribe(topics)

    client.on_connect = on_connect
    client.on_message = lambda _client, _data, message: show(ledger, given.prefix, message)
    if given.ca_file:
        client.tls_set(ca_certs=given.ca_file, certfile=given.cert_file, keyfile=given.key_file)
    return client


def main():
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("host")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--prefix", default="edge")
    parser.add_argument("--device", default="+", help="default: all")
    parser.add_argument("--name", default="reader-1", help="client id; with a certificate, its common name")
    parser.add_argument("--patience-s", type=float, default=60, help="after which a number counts as missing")
    for option in ("--ca-file", "--cert-file", "--key-file"):
        parser.add_argument(option)
    given = parser.parse_args()

    ledger, stop = Ledger(), threading.Event()
    client = client_of(given, ledger)
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 0xFFFFFFFF  # never: the broker keeps what comes while we are away
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        client.connect(given.host, given.port, keepalive=30, clean_start=False, properties=session)
    except OSError as error:
        sys.exit(f"no connection to the broker at {given.host}:{given.port}: {error}")
    client.loop_start()  # connects again by itself
    while not stop.wait(1):
        for device, seq in ledger.overdue(given.patience_s):
            print(f"{device} {seq}: missing; edge-agent outbox replay --from-seq {seq}", flush=True)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
