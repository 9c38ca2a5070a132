"""What the configuration means to the parts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.audio.gate import GateConfig
from edge_agent.audio.segment import EndpointConfig, earliest_cut_s
from edge_agent.config import Config
from edge_agent.mqtt import wire
from edge_agent.mqtt.settings import MqttSettings, endpoint, password, tls_context
from edge_agent.opening import Recogniser, Wish
from edge_agent.partials import PartialConfig
from edge_agent.profile.schema import Profile
from edge_agent.text.stabilise import StabiliserConfig


def mqtt_settings(config: Config) -> MqttSettings:
    """The [mqtt] table as the client takes it, checked before anything is started.

    Raises:
        ConfigError: no usable address, or a file it names cannot be used.
    """
    made = MqttSettings(**msgspec.structs.asdict(config.mqtt))
    password(made)
    if endpoint(made.url).tls:
        tls_context(made)
    return made


def wish_of(config: Config, models_dir: Path) -> Wish:
    """What the [recognition] table asks for."""
    wanted = config.recognition
    return Wish(
        models_dir=models_dir,
        profile=wanted.profile,
        model=wanted.model,
        language=wanted.language,
        prompt=wanted.prompt,
        terms=wanted.terms,
        speculation=wanted.speculation,
        at_once=1,  # there is one scribe; each idle worker would keep the memory of its last decode
    )


_SILENCE_MS = {"command": 400, "dictation": 1000}
"""Modes with a silence of their own: commands are short and thought of before; a dictating person thinks."""


def endpoint_config(config: Config, profile: Profile) -> EndpointConfig:
    """Endpoint values: the configuration's where set, else the mode's, else the profile's."""
    given, usual = config.endpoint, profile.endpoint
    mode = given.mode or usual.mode
    silence_ms = given.silence_ms or _SILENCE_MS.get(mode, usual.silence_ms)
    # A short silence is looked at in its middle: the decode wants as much time again before it is over.
    probe_ms = min(given.probe_ms or min(usual.probe_ms, silence_ms // 2), silence_ms)
    return EndpointConfig(
        silence_ms=silence_ms,
        adaptive=mode == "auto",
        probe_ms=probe_ms,
        max_utterance_s=given.max_utterance_s or usual.max_utterance_s,
        # Not longer than the probe, so that the early decode and the final hear the same samples.
        tail_ms=min(250, probe_ms),
        threshold=profile.vad.threshold,
        exit_threshold=profile.vad.exit_threshold,
        min_speech_ms=profile.vad.min_speech_ms,
    )


def gate_config(config: Config) -> GateConfig:
    """When it is listened to at all."""
    given = config.gate
    return GateConfig(
        mode=given.mode,
        listen_s=given.listen_s,
        threshold=given.threshold,
        refractory_s=given.refractory_s,
        pre_roll_ms=given.pre_roll_ms,
        wake_pre_roll_ms=given.wake_pre_roll_ms,
    )


def wake_model(config: Config) -> Path | None:
    """The wake word's model; None: there is no wake word."""
    return Path(config.gate.model).expanduser() if config.gate.mode == "wake" else None


def partial_config(config: Config, profile: Profile) -> PartialConfig:
    """How often the open utterance is told, and what of it as stable."""
    wanted, how = config.recognition, profile.partials
    longest_s = endpoint_config(config, profile).max_utterance_s
    return PartialConfig(
        enabled=wanted.partials,
        first_ms=how.first_ms,
        interval_ms=wanted.partial_interval_ms,
        stabiliser=StabiliserConfig(
            rule=how.rule,
            guard_s=how.guard_s,
            sure=how.sure,
            open_after_s=earliest_cut_s(longest_s),
        ),
    )


def origin(config: Config, device_id: str, recogniser: Recogniser) -> wire.Origin:
    """Who heard it, with what."""
    return wire.Origin(
        device_id=device_id,
        site=config.device.site,
        profile=recogniser.choice.profile.name,
        engine=recogniser.engine.info.kind,
        model=recogniser.model_name,
    )
