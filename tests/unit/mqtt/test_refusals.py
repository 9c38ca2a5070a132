"""What is said of a connection that came to nothing."""

from __future__ import annotations

import pytest

from edge_agent.errors import BrokerRefused, BrokerUnreachable
from edge_agent.mqtt import refusals

URL = "mqtts://broker:8883"
LOST_ALERTS = (
    "the connection was lost: EOF occurred in violation of protocol (_ssl.c:2427)",
    "the connection was lost: [Errno 104] Connection reset by peer",
    "the connection was lost",
)


@pytest.mark.parametrize("lost", LOST_ALERTS)
def test_a_tls_broker_that_hangs_up_on_a_stranger_names_the_certificate(lost: str) -> None:
    """Its alert may be lost: without a certificate of ours, that is still the likely reason."""
    error = refusals.of_login(URL, None, lost, "", link="tls")
    assert isinstance(error, BrokerRefused)
    assert "client certificate" in error.cause
    assert "mqtt.cert_file" in error.remedy


@pytest.mark.parametrize("lost", LOST_ALERTS)
def test_with_a_certificate_it_may_as_well_be_away(lost: str) -> None:
    """A broker that ends looks the same: not a refusal, but both are named."""
    error = refusals.of_login(URL, None, lost, "", link="certified")
    assert isinstance(error, BrokerUnreachable)
    assert "certificate" in error.cause


def test_an_alert_that_arrives_is_a_refusal() -> None:
    """With or without a certificate of ours."""
    said = "failed to receive on socket: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] (_ssl.c:2576)"
    for link in ("tls", "certified"):
        error = refusals.of_login(URL, None, "the connection was lost", said, link=link)
        assert isinstance(error, BrokerRefused)
        assert "refused our certificate" in error.cause


def test_a_silent_or_plain_listener_is_no_matter_of_certificates() -> None:
    """No answer in time, or no TLS: nothing points at a certificate."""
    for lost, link in ((None, "tls"), ("the connection was lost", "plain")):
        error = refusals.of_login(URL, None, lost, "", link=link)
        assert isinstance(error, BrokerUnreachable)
        assert "certificate" not in error.cause
