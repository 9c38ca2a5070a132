"""A small agent for fault tests: commits finals as fast as it can and delivers them, until it is killed.

Prints the id of each final after its commit. Arguments: outbox path, broker URL.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_agent.clock import SystemClock, uuid7
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.mqtt.wire import Topics
from edge_agent.outbox.store import Outbox


def main(path: str, url: str) -> None:
    """Commit and deliver for ever."""
    clock = SystemClock()
    outbox = Outbox(Path(path), clock=clock)
    courier = Courier(MqttSettings(url=url), Topics("edge", "child"), outbox, clock=clock, boot_id="b")
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


if __name__ == "__main__":
    main(*sys.argv[1:])
