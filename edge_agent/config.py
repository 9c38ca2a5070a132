"""The agent's own configuration: one TOML file, every key optional, unknown keys refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent import strict_toml
from edge_agent.errors import ConfigError
from edge_agent.types import Value

_TOPIC_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_LANGUAGE = re.compile(r"auto|[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class DeviceSection(Value, frozen=True):
    """Who the device is."""

    id: str = ""
    """One MQTT topic segment; empty: derived from the machine id."""
    site: str = ""


class AudioSection(Value, frozen=True):
    """Where sound comes from."""

    source: str | tuple[str, ...] = "alsa:default"
    """One device, or several that are heard side by side."""
    channels: Annotated[int, Meta(ge=1, le=64)] = 1
    """Captured from the device."""
    use_channels: tuple[Annotated[int, Meta(ge=0, le=63)], ...] = (0,)
    """Transcribed of each device, each its own stream."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The devices."""
        return (self.source,) if isinstance(self.source, str) else self.source


class RecognitionSection(Value, frozen=True):
    """What is recognised, with what."""

    profile: str = "auto"
    model: str = ""
    language: str | tuple[str, ...] = "en"
    script: Literal["", "Hant", "Hans"] = ""
    prompt: str = ""
    terms: tuple[str, ...] = ()
    partials: bool = True
    partial_interval_ms: Annotated[int, Meta(ge=100, le=10_000)] = 500
    speculation: Literal["auto", "off", "draft", "history", "terms"] = "auto"


class GateSection(Value, frozen=True):
    """When the sound is listened to at all."""

    mode: Literal["always", "command", "wake"] = "always"
    """command: nothing is recognised until the command `listen`; wake: or until a wake word."""
    model: str = ""
    """ONNX file of the wake word."""
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The least score that passes for it."""
    refractory_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    """After the wake word, this long no other one counts."""
    listen_s: Annotated[float, Meta(ge=1, le=600)] = 8.0
    """How long speech may take to begin."""
    pre_roll_ms: Annotated[int, Meta(ge=0, le=5_000)] = 500
    """Sound from before the command that is heard too."""
    wake_pre_roll_ms: Annotated[int, Meta(ge=0, le=5_000)] = 0
    """Sound from before the wake word was recognised that is heard too."""


class EndpointSection(Value, frozen=True):
    """When an utterance ends; what is not set comes from the profile."""

    mode: Literal["", "fixed", "command", "dictation", "auto"] = ""
    """fixed: `silence_ms`; command, dictation: shorter, longer, unless `silence_ms` is set; auto: follows the
    speaker's pauses and how finished the words look."""
    silence_ms: Annotated[int, Meta(ge=100, le=5_000)] | None = None
    probe_ms: Annotated[int, Meta(ge=50, le=5_000)] | None = None
    max_utterance_s: Annotated[float, Meta(ge=2, le=29)] | None = None


class MqttSection(Value, frozen=True):
    """The broker."""

    url: str = "mqtt://127.0.0.1:1883"
    prefix: str = "edge"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    events: bool = False
    """Tell speech_start, speech_end and the like on up/event."""
    health_interval_s: Annotated[float, Meta(ge=0.5, le=60)] = 60
    """Gauges on up/health so often; 1 makes the level meter of `listen` live while a microphone is set up."""


class OutboxSection(Value, frozen=True):
    """The durable queue on disk."""

    quota_mb: Annotated[int, Meta(ge=1)] = 256
    keep_delivered_h: Annotated[float, Meta(ge=0)] = 72


class BridgesSection(Value, frozen=True):
    """Other conventions spoken beside our own."""

    hermes: bool = False
    home_assistant: bool = False
    plain: bool = False


class FleetSection(Value, frozen=True):
    """Models that come signed from afar."""

    root_file: str = ""
    """The fleet's root document, from the enrolment; empty: no model comes from afar."""
    mirrors: tuple[str, ...] = ()
    """Web addresses and directories that hold the fleet's repository, tried in order."""
    model: str = ""
    """The signed model that is wanted, and its number."""
    model_version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    profile: str = ""
    """The signed profile that is wanted, and its number."""
    profile_version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    engine: str = ""
    """The signed TensorRT-LLM engine that is wanted, and its number."""
    engine_version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    trial_min: Annotated[float, Meta(ge=0.05, le=1440)] = 10
    """How long what is new is watched on live speech before it is kept."""


class Config(Value, frozen=True):
    """The whole configuration file."""

    device: DeviceSection = DeviceSection()
    audio: AudioSection = AudioSection()
    recognition: RecognitionSection = RecognitionSection()
    gate: GateSection = GateSection()
    endpoint: EndpointSection = EndpointSection()
    mqtt: MqttSection = MqttSection()
    outbox: OutboxSection = OutboxSection()
    bridges: BridgesSection = BridgesSection()
    fleet: FleetSection = FleetSection()

    @property
    def languages(self) -> tuple[str, ...]:
        """Allowed languages; empty with "auto"."""
        given = self.recognition.language
        if isinstance(given, tuple):
            return given
        return () if given == "auto" else (given,)


def load(path: Path | None, overrides: list[str]) -> Config:
    """The configuration of a file (or the defaults) with command-line overrides applied.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type or a value that cannot work.
    """
    data = strict_toml.read(path) if path is not None else {}
    for assignment in overrides:
        strict_toml.assign(data, assignment)
    where = str(path) if path is not None else "the configuration"
    config = strict_toml.convert(data, Config, where)
    _check(config, where)
    return config


def with_values(config: Config, values: Mapping[str, object], where: str) -> Config:
    """The same configuration with other values for some keys, named like "endpoint.silence_ms".

    Raises:
        ConfigError: unknown key, wrong type or a value that cannot work.
    """
    tables = msgspec.to_builtins(config)
    for key, value in values.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = value
    changed = strict_toml.convert(tables, Config, where)
    _check(changed, where)
    return changed


def with_broker(config: Config, url: str, device_id: str) -> Config:
    """The same configuration for another broker and identity."""
    return msgspec.structs.replace(
        config,
        mqtt=msgspec.structs.replace(config.mqtt, url=url),
        device=msgspec.structs.replace(config.device, id=device_id),
    )


def _check(config: Config, where: str) -> None:
    audio = config.audio
    for source in audio.sources or ("",):
        if not source.startswith(("alsa:", "file:", "stdin:")):
            raise ConfigError(
                f'{where}: audio.source: "{source}" is no source',
                remedy="use alsa:<device>, file:<path> or stdin:",
            )
    beyond = [channel for channel in audio.use_channels if channel >= audio.channels]
    if beyond or not audio.use_channels:
        raise ConfigError(
            f"{where}: audio.use_channels: {list(audio.use_channels)} is beyond channels = {audio.channels}",
            remedy=f"name channels from 0 to {audio.channels - 1}",
        )
    for name, segment in (("device.id", config.device.id), ("mqtt.prefix", config.mqtt.prefix)):
        if segment and not _TOPIC_SEGMENT.fullmatch(segment):
            raise ConfigError(
                f'{where}: {name}: "{segment}" cannot be part of an MQTT topic',
                remedy="use letters, digits, dot, dash and underscore, at most 64",
            )
    for language in config.languages:
        if not _LANGUAGE.fullmatch(language):
            raise ConfigError(
                f'{where}: recognition.language: "{language}" is not a language tag',
                remedy='use a tag such as "en" or "zh", a list of tags, or "auto"',
            )
    if config.gate.mode == "wake" and not config.gate.model:
        raise ConfigError(
            f'{where}: gate.mode: "wake" needs a wake word model',
            remedy="name its ONNX file in gate.model",
        )
    _check_fleet(config.fleet, where)
    silence, probe = config.endpoint.silence_ms, config.endpoint.probe_ms
    if silence is not None and probe is not None and probe > silence:
        raise ConfigError(
            f"{where}: endpoint.probe_ms: {probe} is longer than endpoint.silence_ms = {silence}",
            remedy="make probe_ms at most silence_ms",
        )


def _check_fleet(fleet: FleetSection, where: str) -> None:
    for kind, name in (("model", fleet.model), ("profile", fleet.profile), ("engine", fleet.engine)):
        if name and not _BUNDLE.fullmatch(name):
            raise ConfigError(
                f'{where}: fleet.{kind}: "{name}" is no name of a bundle',
                remedy="use letters, digits, dot, dash and underscore, at most 48",
            )
        if name and not fleet.root_file:
            raise ConfigError(
                f"{where}: fleet.{kind}: this device trusts no fleet",
                remedy="enrol it, or set fleet.root_file",
            )
    for mirror in fleet.mirrors:
        if not mirror.startswith(("http://", "https://", "/")):
            raise ConfigError(
                f'{where}: fleet.mirrors: "{mirror}" is no mirror',
                remedy="use an http(s) address or an absolute path",
            )


def device_id(config: Config, state_dir: Path, machine_id: Path = Path("/etc/machine-id")) -> str:
    """The configured id, else one derived from the machine id, else a random one kept in device.json.

    The machine id itself is never published (machine-id(5) asks for a keyed hash).
    """
    if config.device.id:
        return config.device.id
    try:
        seed = machine_id.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        seed = ""
    if seed:
        return "edge-" + hashlib.sha256(b"edge-agent device id " + seed.encode()).hexdigest()[:12]
    return _kept_id(state_dir / "device.json")


def _kept_id(path: Path) -> str:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        if _TOPIC_SEGMENT.fullmatch(kept.get("id", "")):
            return kept["id"]
    except (OSError, msgspec.DecodeError):
        pass  # first start, or a damaged file: a new id is made below
    import secrets

    from edge_agent.files import write_atomically

    fresh = f"edge-{secrets.token_hex(6)}"
    write_atomically(path, msgspec.json.encode({"id": fresh}))
    return fresh
