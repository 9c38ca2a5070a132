"""Where the broker is and how we show who we are."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.errors import ConfigError
from edge_agent.types import Value


class MqttSettings(Value, frozen=True):
    """The [mqtt] table; empty strings mean "not given"."""

    url: str = "mqtt://127.0.0.1:1883"
    """mqtt://host[:port] or mqtts://host[:port] for TLS."""
    prefix: str = "edge"
    ca_file: str = ""
    """CA that the broker's certificate must descend from; default: the system's."""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    """First line is the password; read at each connection, so that it can be changed in place."""
    events: bool = False
    """Tell speech_start, speech_end and the like on up/event."""
    health_interval_s: float = 60
    """Gauges on up/health so often; 1 makes the level meter of `listen` live while a microphone is set up."""
    keepalive_s: int = 28
    """A broker waits one and a half of it and looks once a second: `offline` 45 s after a cable broke."""
    connect_timeout_s: float = 10.0


class Endpoint(Value, frozen=True):
    """A parsed URL."""

    host: str
    port: int
    tls: bool


def endpoint(url: str) -> Endpoint:
    """Parse mqtt:// and mqtts:// URLs.

    Raises:
        ConfigError: other schemes, no host, a bad port, credentials or a path inside.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f'mqtt.url "{url}" is not a URL: {error}', remedy="use mqtt://host:1883") from error
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise ConfigError(
            f'mqtt.url "{url}" is not a broker address', remedy="use mqtt://host:1883 or mqtts://host:8883"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "mqtt.url holds a user name or password", remedy="use mqtt.username and mqtt.password_file"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f'mqtt.url "{url}" goes on after the port', remedy="end it after the port")
    tls = parts.scheme == "mqtts"
    return Endpoint(host=host, port=port or (8883 if tls else 1883), tls=tls)


def password(settings: MqttSettings) -> str | None:
    """The password, or None when there is no file for it.

    Raises:
        ConfigError: the file cannot be read.
    """
    if not settings.password_file:
        return None
    try:
        lines = Path(settings.password_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"mqtt.password_file {settings.password_file} cannot be read: {error}",
            remedy="create it, readable by the agent only",
        ) from error
    return lines[0] if lines else ""


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """TLS 1.2 or later; chain and host name are always checked.

    Raises:
        ConfigError: a certificate or key file is missing or unusable.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise ConfigError(
            f"mqtt.ca_file {settings.ca_file} cannot be used: {error}", remedy="give a PEM file of the CA"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file or None, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"mqtt.cert_file {settings.cert_file} and its key cannot be used: {error}",
                remedy="give PEM files of the device's certificate and unencrypted key",
            ) from error
    return context
