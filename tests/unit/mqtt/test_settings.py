"""Broker address and credentials."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.mqtt.settings import MqttSettings, endpoint, password, tls_context


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker", "broker", 8883, True),
        ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884, False),
        ("mqtts://[::1]:9000", "::1", 9000, True),
    ],
)
def test_addresses(url: str, host: str, port: int, tls: bool) -> None:
    """Scheme decides about TLS and the default port."""
    found = endpoint(url)
    assert (found.host, found.port, found.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    ["", "broker", "http://broker", "mqtt://", "mqtt://broker:99999", "mqtt://broker/x", "mqtt://u:p@broker"],
)
def test_what_is_no_address_is_a_configuration_error(url: str) -> None:
    """Named, with the form to use; credentials belong into files."""
    with pytest.raises(ConfigError, match=r"mqtt\.url"):
        endpoint(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_configuration_error(url: str) -> None:
    """Nothing else escapes."""
    try:
        endpoint(url)
    except ConfigError:
        return


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    """A trailing newline is no part of it."""
    file = tmp_path / "password"
    file.write_text("secret\n")
    assert password(MqttSettings(password_file=str(file))) == "secret"
    assert password(MqttSettings()) is None
    with pytest.raises(ConfigError, match="password_file"):
        password(MqttSettings(password_file=str(tmp_path / "missing")))


def test_tls_always_checks_chain_and_name(tmp_path: Path) -> None:
    """There is no way to switch it off; unusable files are configuration errors."""
    context = tls_context(MqttSettings())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    with pytest.raises(ConfigError, match="ca_file"):
        tls_context(MqttSettings(ca_file=str(rubbish)))
    with pytest.raises(ConfigError, match="cert_file"):
        tls_context(MqttSettings(cert_file=str(rubbish)))
