"""A small agent for fault tests: commits finals one after the other and delivers them, until it is killed.

Begins with a line on its standard input: a run of many kills has the next one imported and waiting. Prints
the id of each final after its commit. Arguments: outbox path, broker URL, pause between finals in seconds,
keepalive in seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edge_agent.clock import SystemClock, uuid7
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.mqtt.wire import Topics
from edge_agent.outbox.store import Outbox


def main(path: str, url: str, pause_s: str, keepalive_s: str = "30") -> None:
    """Commit and deliver for ever."""
    sys.stdin.readline()
    clock = SystemClock()
    outbox = Outbox(Path(path), clock=clock)
    settings = MqttSettings(url=url, keepalive_s=int(keepalive_s))
    courier = Courier(settings, Topics("edge", "child"), outbox, clock=clock, boot_id="b")
    courier.start()
    while courier.alive:
        new = uuid7(clock.utc_ms())
        outbox.append(
            id=new,
            kind="final",
            make_payload=lambda seq, new=new: (
                b'{"id":"%s","seq":%d,"pad":"%s"}' % (new.encode(), seq, b"x" * 300)
            ),
        )
        courier.notify()
        sys.stdout.write(new + "\n")
        sys.stdout.flush()
        time.sleep(float(pause_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
