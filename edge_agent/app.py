"""The appliance: every part made from the configuration, joined one way, started, watched and stopped.

    source -> ears -> ring -> cutter -> scribe -> outbox -> courier -> broker

Nothing travels back. The main thread calls `tick` once a second and `stop` at the end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.audio.cutter import Callbacks, Cutter
from edge_agent.audio.ears import Ears
from edge_agent.audio.ring import Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.source import AudioSource
from edge_agent.clock import Clock, uuid7
from edge_agent.config import Config
from edge_agent.describe import info_facts, rss_bytes
from edge_agent.files import write_atomically
from edge_agent.health.checks import AgentReport
from edge_agent.ledger import Ledger
from edge_agent.mqtt import wire
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings, endpoint, password, tls_context
from edge_agent.opening import Recogniser, Wish
from edge_agent.outbox.rows import Drop
from edge_agent.outbox.store import Outbox
from edge_agent.partials import PartialConfig
from edge_agent.profile.schema import Profile
from edge_agent.relief import Relief
from edge_agent.scribe import Scribe
from edge_agent.spare import Spares
from edge_agent.supervise import Heartbeats, decode_limit_s
from edge_agent.text.script import Script
from edge_agent.types import Hypothesis, State, Utterance
from edge_agent.work import Work

_log = logging.getLogger(__name__)

_HEALTH_INTERVAL_S = 60.0
_REPORT_INTERVAL_S = 5.0
_HUNG_AFTER_S = {"ears": 10.0, "cutter": 10.0, "courier": 60.0}
_SILENT_MICROPHONE_S = 30.0


class Agent:
    """All parts of one running appliance.

    Args:
        config: the configuration.
        device_id: the MQTT identity.
        recogniser: an open engine with its profile; who opened it closes it.
        spares: where `recogniser` came from, when a failing engine is to be replaced.
        source: the microphone or recording.
        state_dir: for the outbox.
        report_path: file for `edge-agent health`; None writes none.
        clock: both times.
        on_final: told of each final before it is committed, for measurements.
    """

    def __init__(
        self,
        config: Config,
        *,
        device_id: str,
        recogniser: Recogniser,
        spares: Spares | None = None,
        source: AudioSource,
        state_dir: Path,
        report_path: Path | None,
        clock: Clock,
        on_final: Callable[[Utterance, Hypothesis], None] | None = None,
    ) -> None:
        profile = recogniser.choice.profile
        self._clock, self._recogniser, self._report_path = clock, recogniser, report_path
        self._live, self._spares = source.paced, spares
        self.outbox = Outbox(
            state_dir / "outbox.sqlite3",
            quota_mb=config.outbox.quota_mb,
            keep_delivered_h=config.outbox.keep_delivered_h,
            clock=clock,
            make_gap=_quota_gap,
        )
        self.courier = Courier(
            mqtt_settings(config),
            wire.Topics(config.mqtt.prefix, device_id),
            self.outbox,
            clock=clock,
            boot_id=uuid7(clock.utc_ms()),
        )
        ledger = Ledger(
            self.outbox, self.courier, _origin(config, device_id, recogniser), clock, on_final=on_final
        )
        self.scribe = Scribe(
            recogniser.engine if spares is None else spares,
            options=recogniser.options,
            commit=ledger,
            clock=clock,
            queue_s=profile.limits.utterance_queue_s,
            live=source.paced,
            partials=partial_config(config),
            snapshot=self._snapshot,
            refine=Script(config.recognition.script),
        )
        ring = Ring()
        self.cutter = Cutter(
            ring,
            clock=clock,
            config=endpoint_config(config, profile),
            callbacks=_into(self.scribe.work),
            use_channels=config.audio.use_channels,
        )
        self.ears = Ears(source, ring, clock=clock)
        self._pause = threading.Event()
        self._hearts = Heartbeats(_HUNG_AFTER_S | {"scribe": decode_limit_s(profile.expect.rtf_max)})
        self.relief = Relief(self.scribe.work, spares, queue_limit_s=profile.limits.utterance_queue_s)
        self._started_ns = clock.monotonic_ns()
        self._next_health_ns = self._next_report_ns = 0
        self._said: tuple[State, tuple[str, ...]] = ("online", ())

        def changed(now: Recogniser) -> None:
            self._recogniser = now
            ledger.origin = _origin(config, device_id, now)
            self.courier.set_info(info_facts(now))

        if spares is not None:
            spares.on_change = changed

    def start(self) -> None:
        """Warm the engine, start the threads from the outbox backwards, then say `online`."""
        self.courier.set_info(info_facts(self._recogniser))
        (self._recogniser.engine if self._spares is None else self._spares).warm_up()
        self.scribe.start()
        self.cutter.start()
        self.ears.start()
        self.courier.start()

    @property
    def ended(self) -> bool:
        """True when the source has ended and all of it has been committed."""
        return not self.cutter.alive and self.scribe.work.wait_idle(0.0)

    @property
    def failure(self) -> BaseException | None:
        """What no part can recover from by itself; the process should end and be started again."""
        return self.scribe.failure or self.cutter.failure or self.ears.failure or self.courier.failure

    def tick(self) -> tuple[str, ...]:
        """Once a second: note progress, publish state; answers the names of hung threads."""
        now_ns = self._clock.monotonic_ns()
        for name, part in (
            ("ears", self.ears),
            ("cutter", self.cutter),
            ("scribe", self.scribe),
            ("courier", self.courier),
        ):
            if part.alive:
                self._hearts.observe(name, part.progress, now_ns)
        if self._live:
            self.relief.tick(now_ns)
        state, reasons = self.state()
        if (state, reasons) != self._said:
            self._said = (state, reasons)
            self.courier.set_status(state, reasons)
            self._next_health_ns = 0
        if now_ns >= self._next_health_ns:
            self._next_health_ns = now_ns + int(_HEALTH_INTERVAL_S * 1e9)
            self.courier.set_health(self.health())
        if self._report_path is not None and now_ns >= self._next_report_ns:
            self._next_report_ns = now_ns + int(_REPORT_INTERVAL_S * 1e9)
            self._write_report(self._report_path, state, reasons)
        return self._hearts.hung(now_ns)

    def state(self) -> tuple[State, tuple[str, ...]]:
        """What `up/status` says now, and why."""
        reasons = []
        trouble = self.ears.statistics().reason
        if trouble:
            reasons.append(f"microphone: {trouble}")
        elif self._live and self.cutter.level(0).zero_run_s > _SILENT_MICROPHONE_S:
            reasons.append("microphone: open but exactly silent; is it muted?")
        store = self.outbox.stats()
        if store.state != "durable":
            reasons.append(f"outbox: kept in memory only, {store.fault}")
        if self.scribe.statistics().queued_s > self._recogniser.choice.profile.limits.utterance_queue_s / 2:
            reasons.append("recognition is behind")
        if self._spares is not None and self._spares.reason:
            reasons.append(f"{self._spares.reason}; now {self._recogniser.choice.profile.name}")
        if self.relief.reason:
            reasons.append(self.relief.reason)
        return ("degraded" if reasons else "online"), tuple(reasons)

    def wait_delivered(self, timeout_s: float) -> bool:
        """Wait until the broker has all that was committed."""
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while self.outbox.stats().queued:
            if self._clock.monotonic_ns() > deadline_ns:
                return False
            self._pause.wait(0.05)
        return True

    def health(self) -> dict[str, object]:
        """The gauges of `up/health`."""
        scribe, cutter = self.scribe.statistics(), self.cutter.statistics()
        level, store = self.cutter.level(0), self.outbox.stats()
        return {
            "uptime_s": round((self._clock.monotonic_ns() - self._started_ns) / 1e9),
            "rss_mb": round(rss_bytes() / 1e6, 1),
            "audio": {
                "heard_s": round(cutter.heard_s, 1),
                "gap_s": round(cutter.gap_s, 3),
                "peak_dbfs": round(level.peak_dbfs, 1),
                "rms_dbfs": round(level.rms_dbfs, 1),
                "silent_s": round(level.zero_run_s, 1),
            },
            "recognition": msgspec.to_builtins(scribe),
            "ears": msgspec.to_builtins(self.ears.statistics()),
            "load": {"step": self.relief.step, **msgspec.to_builtins(self.relief.machine)},
            "outbox": msgspec.to_builtins(store),
            "courier": msgspec.to_builtins(self.courier.statistics()),
        }

    def stop(self, timeout_s: float = 4.5) -> None:
        """Flush: decode what is open, commit everything, deliver what the broker takes in time."""
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * 1e9)

        def left_s(keep_s: float) -> float:
            return max(0.05, (deadline_ns - self._clock.monotonic_ns()) / 1e9 - keep_s)

        self.ears.stop()
        self.ears.join(min(1.0, left_s(3.0)))
        self.cutter.join(min(1.0, left_s(2.5)))
        self.cutter.stop()
        self.cutter.join(left_s(2.0))
        self.scribe.stop(left_s(1.0))
        self.courier.stop(left_s(0.1))
        self.outbox.close()
        if self._report_path is not None:
            self._report_path.unlink(missing_ok=True)

    def _snapshot(self, channel: int) -> Utterance | None:
        return self.cutter.snapshot(channel)

    def _write_report(self, path: Path, state: State, reasons: tuple[str, ...]) -> None:
        scribe = self.scribe.statistics()
        report = AgentReport(
            written_utc_ms=self._clock.utc_ms(),
            pid=os.getpid(),
            state=state,
            reasons=reasons,
            silent_s=self.cutter.level(0).zero_run_s if self._live else None,
            profile=self._recogniser.choice.profile.name,
            engine=self._recogniser.engine.info.kind,
            model=self._recogniser.model_name,
            finals=scribe.finals,
            gaps=scribe.gaps,
            latency_p50_ms=scribe.latency_p50_ms,
            latency_p95_ms=scribe.latency_p95_ms,
        )
        try:
            write_atomically(path, msgspec.json.encode(report))
        except OSError as error:
            _log.warning("health report not written", extra={"path": str(path), "error": str(error)})


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
    )


def endpoint_config(config: Config, profile: Profile) -> EndpointConfig:
    """Endpoint values: the configuration's where set, else the profile's."""
    given, usual = config.endpoint, profile.endpoint
    silence_ms = given.silence_ms or usual.silence_ms
    probe_ms = min(given.probe_ms or usual.probe_ms, silence_ms)
    return EndpointConfig(
        silence_ms=silence_ms,
        probe_ms=probe_ms,
        max_utterance_s=given.max_utterance_s or usual.max_utterance_s,
        # Not longer than the probe, so that the early decode and the final hear the same samples.
        tail_ms=min(250, probe_ms),
        threshold=profile.vad.threshold,
        exit_threshold=profile.vad.exit_threshold,
        min_speech_ms=profile.vad.min_speech_ms,
    )


def _into(work: Work) -> Callbacks:
    """What the cutter tells goes into the scribe's work."""
    return Callbacks(
        on_utterance=work.final,
        on_gap=work.gap,
        on_started=lambda channel, _start_ns: work.started(channel),
        on_paused=lambda _channel, snapshot: work.paused(snapshot),
        on_resumed=work.resumed,
    )


def _quota_gap(seq: int, gap_id: str, drop: Drop) -> bytes:
    """Admits queued messages that had to be given up."""
    return wire.encode_gap(
        seq=seq,
        id=gap_id,
        start_utc_ms=drop.from_utc_ms,
        duration_ms=drop.to_utc_ms - drop.from_utc_ms,
        cause="quota",
        dropped=(drop.first_seq, drop.last_seq, drop.count),
    )


def partial_config(config: Config) -> PartialConfig:
    """How often the open utterance is told."""
    wanted = config.recognition
    return PartialConfig(enabled=wanted.partials, interval_ms=wanted.partial_interval_ms)


def _origin(config: Config, device_id: str, recogniser: Recogniser) -> wire.Origin:
    return wire.Origin(
        device_id=device_id,
        site=config.device.site,
        profile=recogniser.choice.profile.name,
        engine=recogniser.engine.info.kind,
        model=recogniser.model_name,
    )
