"""The MQTT 5 properties that we set."""

from __future__ import annotations

from functools import lru_cache

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

JSON = "application/json"


@lru_cache(maxsize=64)
def of_message(
    expiry_s: int | None = None, content_type: str = JSON, packet: int = PacketTypes.PUBLISH
) -> Properties:
    """Of a message that answers nothing; shared, never change it."""
    made = _new(packet)
    made.ContentType = content_type
    made.PayloadFormatIndicator = 1
    if expiry_s is not None:
        made.MessageExpiryInterval = expiry_s
    return made


def of_answer(expiry_s: int | None, content_type: str, correlation: bytes) -> Properties:
    """Of a message that answers a request."""
    made = of_message.__wrapped__(expiry_s, content_type)
    made.CorrelationData = correlation
    return made


def of_connection(max_incoming_bytes: int | None) -> Properties | None:
    """Of a connection: the largest packet we take; a broker drops larger ones."""
    if max_incoming_bytes is None:
        return None
    made = _new(PacketTypes.CONNECT)
    made.MaximumPacketSize = max_incoming_bytes
    return made


def _new(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped
