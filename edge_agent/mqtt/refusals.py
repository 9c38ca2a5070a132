"""What a failed connection means: which error, which words, which next step."""

from __future__ import annotations

import ssl
from typing import Literal, TypeAlias

from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import BrokerError, BrokerRefused, BrokerUnreachable

Link: TypeAlias = Literal["plain", "tls", "certified"]
"""A connection without TLS, with it, and with a certificate of our own in it."""

FAILURE = 0x80
"""Reason codes from here on mean that the other side did not do it."""

# Codes that say "not now" rather than "not you" (MQTT 5, 2.4): unspecified, unavailable, busy, shutting
# down, keep alive, receive maximum, rate, administrative, use another server, server moved, rate exceeded.
_PASSING = frozenset({0x80, 0x88, 0x89, 0x8B, 0x8D, 0x93, 0x96, 0x98, 0x9C, 0x9D, 0x9F})
_REMEDIES = {
    0x84: "use a broker that speaks MQTT 5",
    0x85: "choose another device.id",
    0x86: "check mqtt.username and mqtt.password_file",
    0x87: "check mqtt.username, mqtt.password_file and the broker's permissions",
    0x8A: "ask the broker's operator to lift the ban",
    0x8E: "give each device its own device.id",
}


def is_refusal(code: int) -> bool:
    """Does the broker mean us, so that trying again soon is no use."""
    return code >= FAILURE and code not in _PASSING


def of_socket(url: str, error: OSError) -> BrokerError:
    """The error of a connection that was not made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"the certificate of the broker at {url} is not trusted: {error.verify_message}",
            remedy="set mqtt.ca_file to the CA that signed it and use the host name it names",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return BrokerRefused(
            f"no TLS with the broker at {url}: {error.reason or error}",
            remedy="check that the port speaks TLS, and mqtt.cert_file against the broker's CA",
        )
    said = error.strerror or str(error) or type(error).__name__
    return BrokerUnreachable(
        f"no connection to the broker at {url}: {said}", remedy="start the broker, or set mqtt.url"
    )


def of_login(
    url: str, answer: ReasonCode | None, lost: str | None, socket_error: str, *, link: Link
) -> BrokerError:
    """The error of a connection that the broker did not accept.

    Args:
        url: of the broker.
        answer: its CONNACK, if there was one.
        lost: why the connection ended before that, if it did.
        socket_error: the last thing the socket complained about.
        link: what the connection was made over.
    """
    if answer is not None:
        kind = BrokerRefused if is_refusal(answer.value) else BrokerUnreachable
        return kind(
            f"the broker at {url} refused the connection: {answer.getName()}",
            remedy=_REMEDIES.get(answer.value, "see the broker's log"),
        )
    if "SSL" in socket_error:  # TLS 1.3 tells a client that its certificate is bad only after the handshake
        return BrokerRefused(
            f"the broker at {url} refused our certificate: {socket_error}",
            remedy="check mqtt.cert_file and mqtt.key_file against the broker's CA",
        )
    if link != "plain" and lost is not None:
        return _closed_after_handshake(url, lost, certified=link == "certified")
    return BrokerUnreachable(
        f"no MQTT session with the broker at {url}: {lost or 'no answer in time'}",
        remedy="check that an MQTT 5 broker listens there",
    )


def _closed_after_handshake(url: str, lost: str, *, certified: bool) -> BrokerError:
    """Gone between handshake and CONNACK: often a refusal whose alert was lost with the connection.

    A broker that closes while our CONNECT is unread resets the connection, and the alert goes down with it.
    Without a certificate of ours that is the likely story, and waiting mends nothing: refused. With one, a
    proxy without a broker behind it, or a broker that ends, looks the same: only unreachable.
    """
    if not certified:
        return BrokerRefused(
            f"the broker at {url} closed the TLS connection before it answered, as one that asks for a client"
            f" certificate does: {lost}",
            remedy="set mqtt.cert_file and mqtt.key_file, or see the broker's log",
        )
    return BrokerUnreachable(
        f"the broker at {url} closed the TLS connection before it answered, as one that does not accept our"
        f" certificate may: {lost}",
        remedy="check that it runs, and mqtt.cert_file and mqtt.key_file against its CA",
    )
