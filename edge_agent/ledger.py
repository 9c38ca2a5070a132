"""Where finished utterances are written down: assembled, committed to the outbox, the courier nudged."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from edge_agent.clock import Clock, uuid7
from edge_agent.mqtt import wire
from edge_agent.mqtt.publisher import Courier
from edge_agent.outbox.store import Outbox
from edge_agent.text.assemble import finish
from edge_agent.text.stabilise import Stable
from edge_agent.types import Gap, GapCause, Hypothesis, Latency, Utterance

_log = logging.getLogger(__name__)


class Ledger:
    """Outbox first (durable), then a nudge to the courier."""

    def __init__(
        self,
        outbox: Outbox,
        courier: Courier,
        origin: wire.Origin,
        clock: Clock,
        *,
        on_final: Callable[[Utterance, Hypothesis], None] | None = None,
    ) -> None:
        self._outbox, self._courier, self._clock = outbox, courier, clock
        self.origin = origin
        """Written into each transcript; may change between two."""
        self.on_final = on_final

    def final(self, utterance: Utterance, hypothesis: Hypothesis, latency: Latency, revision: int) -> str:
        """Commit a final; answers why it was rejected, or an empty string."""
        said = finish(utterance, hypothesis)
        flags = said.flags
        words = hypothesis.words
        if said.rejected:
            _log.info("utterance rejected", extra={"utterance": utterance.id, "reason": said.rejected})
            if revision == 1:
                self._outbox.forget(utterance.id)
                return said.rejected  # nobody was told of it
            flags, words = (*flags, f"rejected:{said.rejected}"), ()
        if self.on_final is not None:
            self.on_final(utterance, hypothesis)
        clean = msgspec.structs.replace(hypothesis, text=said.text, words=words)
        seq = self._outbox.append(
            id=utterance.id,
            kind="final",
            make_payload=lambda number: wire.encode_transcript(
                seq=number,
                utterance=utterance,
                hypothesis=clean,
                origin=self.origin,
                confidence=said.confidence,
                latency=latency,
                flags=flags,
                rev=revision,
            ),
        )
        self._courier.notify()
        _log.info(
            "final",
            extra={
                "utterance": utterance.id,
                "seq": seq,
                "speech_s": round(utterance.duration_s, 2),
                "latency_ms": round(latency.total),
                "decode_ms": round(latency.decode),
                "confidence": round(said.confidence, 2),
            },
        )
        return said.rejected

    def partial(self, utterance: Utterance, hypothesis: Hypothesis, shown: Stable, revision: int) -> None:
        """Send a partial at once or never."""
        self._courier.publish_partial(
            wire.encode_transcript(
                seq=None,
                utterance=utterance,
                hypothesis=msgspec.structs.replace(hypothesis, text=shown.text),
                origin=self.origin,
                kind="partial",
                rev=revision,
                stable=shown.stable,
                tail=shown.tail,
            )
        )

    def gap(self, gap: Gap) -> None:
        """Commit a gap."""
        start_utc_ms = self._clock.utc_ms() - (self._clock.monotonic_ns() - gap.start_ns) // 1_000_000
        gap_id = gap.id or uuid7(self._clock.utc_ms())
        self._gap(gap_id, start_utc_ms, gap.duration_ms, gap.cause)

    def admit_interrupted(self) -> None:
        """Before anything new: the utterances in which the last process died become gaps under their ids."""
        for lost in self._outbox.unfinished():
            self._gap(lost.id, lost.start_utc_ms, lost.duration_ms, "restart")

    def _gap(self, gap_id: str, start_utc_ms: int, duration_ms: float, cause: GapCause) -> None:
        self._outbox.append(
            id=gap_id,
            kind="gap",
            make_payload=lambda number: wire.encode_gap(
                seq=number, id=gap_id, start_utc_ms=start_utc_ms, duration_ms=duration_ms, cause=cause
            ),
        )
        self._courier.notify()
        _log.warning("gap", extra={"cause": cause, "duration_ms": round(duration_ms)})
