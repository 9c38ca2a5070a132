"""The appliance: every part made from the configuration, joined one way, started, watched and stopped.

    source -> ears -> ring -> cutter -> scribe -> outbox -> courier -> broker

Nothing travels back. The main thread calls `tick` once a second and `stop` at the end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from edge_agent import memory
from edge_agent.audio.several import hearing
from edge_agent.audio.source import AudioSource
from edge_agent.callbacks import callbacks
from edge_agent.clock import Clock, uuid7
from edge_agent.config import Config
from edge_agent.control import Control
from edge_agent.describe import info_facts, name_threads, sound_gauges
from edge_agent.events import Events
from edge_agent.files import write_atomically
from edge_agent.hands import Hands
from edge_agent.health.checks import AgentReport
from edge_agent.ledger import Ledger
from edge_agent.meaning import (
    endpoint_config,
    gate_config,
    mqtt_settings,
    origin,
    partial_config,
    wake_model,
)
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import Aside
from edge_agent.mqtt.bridges.make import bridges
from edge_agent.mqtt.publisher import Courier
from edge_agent.opening import Recogniser
from edge_agent.outbox.rows import Drop
from edge_agent.outbox.store import Outbox
from edge_agent.relief import Relief
from edge_agent.remote import RemoteStore, Standing
from edge_agent.scribe import Scribe
from edge_agent.spare import Spares
from edge_agent.text.ending import ending
from edge_agent.text.script import Script
from edge_agent.types import Hypothesis, State, Utterance
from edge_agent.unfinished import Notes
from edge_agent.vigil import Vigil
from edge_agent.watched import watched

_log = logging.getLogger(__name__)

_TRIM_INTERVAL_S = 5.0
_REPORT_INTERVAL_S = 5.0
_SILENT_MICROPHONE_S = 30.0
_LOOK_S = 0.2
"""What nobody rings for is looked at so often."""


class Agent:
    """All parts of one running appliance.

    Args:
        config: the configuration.
        device_id: the MQTT identity.
        recogniser: an open engine with its profile; who opened it closes it.
        spares: where `recogniser` came from, when a failing engine is to be replaced.
        standing: what was set from afar earlier; None: nothing, and nothing will be remembered.
        source: the microphone or recording.
        more_sources: others, heard side by side; their channels are numbered on.
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
        standing: Standing | None = None,
        source: AudioSource,
        state_dir: Path,
        report_path: Path | None,
        clock: Clock,
        on_final: Callable[[Utterance, Hypothesis], None] | None = None,
        more_sources: Sequence[AudioSource] = (),
    ) -> None:
        profile = recogniser.choice.profile
        self._clock, self._recogniser, self._report_path = clock, recogniser, report_path
        sources = (source, *more_sources)
        self._live, self._spares = all(one.paced for one in sources), spares
        self.outbox = Outbox(
            state_dir / "outbox.sqlite3",
            quota_mb=config.outbox.quota_mb,
            keep_delivered_h=config.outbox.keep_delivered_h,
            clock=clock,
            make_gap=_quota_gap,
        )
        topics = wire.Topics(config.mqtt.prefix, device_id)
        names = (profile.name, *(name for name, _ in recogniser.choice.rejected))
        spoken = bridges(config, topics, names)
        self._bell = threading.Event()
        asked = (topics.command, topics.desired, *spoken.filters)
        aside = Aside(asked, ring=self._bell.set, make_posts=spoken.posts)
        self._aside = aside
        self._health_interval_ns = int(config.mqtt.health_interval_s * 1e9)
        self._events = Events(aside, topics.event, clock, wanted=config.mqtt.events)
        self.courier = Courier(
            mqtt_settings(config),
            topics,
            self.outbox,
            clock=clock,
            boot_id=uuid7(clock.utc_ms()),
            aside=aside,
        )
        self._ledger = ledger = Ledger(
            self.outbox, self.courier, origin(config, device_id, recogniser), clock, on_final=on_final
        )
        self.scribe = Scribe(
            recogniser.engine if spares is None else spares,
            options=recogniser.options,
            commit=ledger,
            clock=clock,
            queue_s=profile.limits.utterance_queue_s,
            live=self._live,
            partials=partial_config(config, profile),
            snapshot=self._snapshot,
            refine=Script(config.recognition.script),
            on_early=self._judge,
        )
        self._notes = Notes(self.outbox, self._snapshot, self._bell.set)
        self.ears, self.cutter = hearing(
            sources,
            clock=clock,
            config=endpoint_config(config, profile),
            callbacks=callbacks(self.scribe.work, self._notes, self._events),
            use_channels=config.audio.use_channels,
            gate=gate_config(config),
            wake_model=wake_model(config),
        )
        standing = standing or Standing(
            store=RemoteStore(None),
            base=config,
            config=config,
            reload=lambda: config,
            models_dir=state_dir / "models",
        )
        self.control = Control(
            Hands(
                ears=self.ears,
                cutter=self.cutter,
                scribe=self.scribe,
                ledger=ledger,
                outbox=self.outbox,
                config=config,
                serving=lambda: self._recogniser,
                standing=standing,
            ),
            aside,
            keep=self.courier.keep,
            topics=topics,
            bridges=spoken,
            standing=standing,
            clock=clock,
        )
        self._pause = threading.Event()
        parts = (self.ears, self.cutter, self.scribe, self.courier)
        self.vigil = Vigil(
            watched(*parts, serving=lambda: self._recogniser, spares=spares, live=self._live), clock=clock
        )
        """Not started: a service does that, a bench need not."""
        self.relief = Relief(
            self.scribe.work,
            spares,
            queue_limit_s=profile.limits.utterance_queue_s,
            promised_ms=profile.expect.p95_latency_ms,
        )
        self._started_ns = clock.monotonic_ns()
        self._next_health_ns = self._next_report_ns = self._next_trim_ns = 0
        self._said: tuple[State, tuple[str, ...]] = ("online", ())

        def changed(now: Recogniser) -> None:
            self._recogniser = now
            site = ledger.origin.site
            ledger.origin = msgspec.structs.replace(origin(config, device_id, now), site=site)
            self._events.say("profile_changed", profile=now.choice.profile.name)
            self.tell_info()

        if spares is not None:
            spares.on_change = changed
        self.more_info: Callable[[], Mapping[str, object]] = dict
        """Told in `up/info` beside our own facts."""

    def start(self) -> None:
        """Warm the engine, start the threads from the outbox backwards, then say `online`."""
        self._ledger.admit_interrupted()
        self.tell_info()
        (self._recogniser.engine if self._spares is None else self._spares).warm_up()
        self.control.start()
        self._tell_state()
        self.scribe.start()
        self.cutter.start()
        self.ears.start()
        self.courier.start()
        name_threads()

    def tell_info(self) -> None:
        """Publish `up/info` anew. Any thread."""
        self.courier.set_info({**info_facts(self._recogniser), **self.more_info()})

    def hear(self, on_final: Callable[[Utterance, Hypothesis], None]) -> None:
        """Tell this one of each final too, on the scribe's thread."""
        self._ledger.on_final = on_final

    @property
    def ended(self) -> bool:
        """True when the source has ended and all of it has been committed."""
        return not self.cutter.alive and self.scribe.work.wait_idle(0.0)

    @property
    def failure(self) -> BaseException | None:
        """What no part can recover from by itself; the process should end and be started again."""
        return self.scribe.failure or self.cutter.failure or self.ears.failure or self.courier.failure

    def tick(self) -> tuple[str, ...]:
        """Once a second: publish state; answers the names of hung threads."""
        now_ns = self._clock.monotonic_ns()
        self.vigil.beat()
        if self._live:
            self.relief.tick(now_ns)
        state, reasons = self._tell_state()
        if now_ns >= self._next_trim_ns:
            self._next_trim_ns = now_ns + int(_TRIM_INTERVAL_S * 1e9)
            memory.give_back()
        if now_ns >= self._next_health_ns:
            self._next_health_ns = now_ns + self._health_interval_ns
            self.courier.set_health(self.health())
        if self._report_path is not None and now_ns >= self._next_report_ns:
            self._next_report_ns = now_ns + int(_REPORT_INTERVAL_S * 1e9)
            self._write_report(self._report_path, state, reasons)
        return self.vigil.hung

    def wait(self, stop: threading.Event, timeout_s: float) -> bool:
        """Until told to stop (True) or the time is over; does meanwhile what is asked from afar."""
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while not stop.is_set():
            self._notes.tick(self._clock.monotonic_ns())
            if self.control.tick():
                self._events.say("muted" if self.control.muted else "unmuted")
                self._tell_state()
            left_s = (deadline_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0 or self.control.restart or self.vigil.hung:
                return False
            self._bell.wait(min(_LOOK_S, left_s))
            self._bell.clear()
        return True

    def _tell_state(self) -> tuple[State, tuple[str, ...]]:
        said = self.state()
        if said != self._said:
            self._said = said
            self.courier.set_status(*said)
            self._next_health_ns = 0
        return said

    def state(self) -> tuple[State, tuple[str, ...]]:
        """What `up/status` says now, and why."""
        reasons = []
        muted, ears = self.control.muted, self.ears.statistics()
        trouble = "" if muted and ears.state == "muted" else ears.reason
        if trouble:
            reasons.append(f"microphone: {trouble}")
        elif self._live and not muted and self.cutter.level(0).zero_run_s > _SILENT_MICROPHONE_S:
            reasons.append("microphone: open but exactly silent; is it muted?")
        store = self.outbox.stats()
        if store.trouble:
            reasons.append(f"outbox: {store.trouble}")
        link = self.courier.statistics()
        if link.refused:
            reasons.append(f"broker: {link.reason}")
        if self.scribe.statistics().queued_s > self._recogniser.choice.profile.limits.utterance_queue_s / 2:
            reasons.append("recognition is behind")
        if self._spares is not None and self._spares.reason:
            reasons.append(f"{self._spares.reason}; now {self._recogniser.choice.profile.name}")
        if self.relief.reason:
            reasons.append(self.relief.reason)
        if muted:
            return "muted", (f"muted by {' and '.join(muted)}", *reasons)
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
        return {
            "uptime_s": round((self._clock.monotonic_ns() - self._started_ns) / 1e9),
            "rss_mb": round(memory.rss_bytes() / 1e6, 1),
            "audio": sound_gauges(self.cutter),
            "recognition": msgspec.to_builtins(self.scribe.statistics()),
            "drafts": msgspec.to_builtins(getattr(self._recogniser.engine, "draft_statistics", ())),
            "ears": msgspec.to_builtins(self.ears.statistics()),
            "load": {"step": self.relief.step, **msgspec.to_builtins(self.relief.machine)},
            "outbox": msgspec.to_builtins(self.outbox.stats()),
            "courier": msgspec.to_builtins(self.courier.statistics()),
            "messages": msgspec.to_builtins(self._aside.statistics()),
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

    def _judge(self, paused: Utterance, heard: Hypothesis) -> None:
        self.cutter.advise(paused.channel, paused.id, ending(heard.text, heard.language))

    def _write_report(self, path: Path, state: State, reasons: tuple[str, ...]) -> None:
        scribe, ears, level = self.scribe.statistics(), self.ears.statistics(), self.cutter.level(0)
        report = AgentReport(
            written_utc_ms=self._clock.utc_ms(),
            pid=os.getpid(),
            state=state,
            reasons=reasons,
            silent_s=level.zero_run_s if self._live else None,
            profile=self._recogniser.choice.profile.name,
            engine=self._recogniser.engine.info.kind,
            model=self._recogniser.model_name,
            finals=scribe.finals,
            gaps=scribe.gaps,
            latency_p50_ms=scribe.latency_p50_ms,
            latency_p95_ms=scribe.latency_p95_ms,
            promised_p95_ms=self._recogniser.choice.profile.expect.p95_latency_ms,
            uptime_s=(self._clock.monotonic_ns() - self._started_ns) / 1e9,
            peak_dbfs=level.peak_dbfs if self._live else None,
            rms_dbfs=level.rms_dbfs if self._live else None,
            overruns=ears.overruns,
            losses=ears.losses,
            load_step=self.relief.step,
            queued_s=scribe.queued_s,
        )
        try:
            write_atomically(path, msgspec.json.encode(report))
        except OSError as error:
            _log.warning("health report not written", extra={"path": str(path), "error": str(error)})


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
