"""Which threads are watched, and how long each may stand still."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.audio.several import AllCutters, AllEars
from edge_agent.decoding.meter import parts_finished
from edge_agent.mqtt.publisher import Courier
from edge_agent.opening import Recogniser
from edge_agent.scribe import Scribe
from edge_agent.spare import Spares
from edge_agent.supervise import LONGEST_S, Limit, decode_limit_s
from edge_agent.vigil import Watched

_EARS = Limit(idle_s=5.0, busy_s=20.0)
"""It waits a quarter of a second at most, two while the device is away; opening a long recording is work."""
_CUTTER = Limit(idle_s=5.0, busy_s=6.0)
_IDLE_SCRIBE_S = 6.0
"""Committing waits two seconds at most for another process that writes to the outbox."""
_COURIER = Limit(idle_s=6.0, busy_s=10.0)
_PATIENT = Limit(idle_s=LONGEST_S, busy_s=LONGEST_S)
"""What depends on others: names looked up in a broken network, a model on a slow disk."""


def watched(
    ears: AllEars,
    cutter: AllCutters,
    scribe: Scribe,
    courier: Courier,
    *,
    serving: Callable[[], Recogniser],
    spares: Spares | None,
    live: bool,
) -> tuple[Watched, ...]:
    """The four threads of an appliance.

    Args:
        ears: of all devices.
        cutter: of all devices.
        scribe: with the threads of the engine, which works for it.
        courier: of the only broker.
        serving: the recogniser of now.
        spares: where it came from.
        live: False: recordings wait for the scribe, so the cutter may stand still.
    """

    def of_scribe() -> Limit:
        if spares is not None and spares.opening:
            return _PATIENT
        recogniser = serving()
        profile = recogniser.choice.profile
        stepwise = recogniser.engine.info.steps
        busy_s = decode_limit_s(profile.expect.rtf_max, stepwise=stepwise)
        # Only of an engine on the CPU can it be seen whether it works.
        seen = stepwise and profile.engine.device == "cpu"
        return Limit(idle_s=_IDLE_SCRIBE_S if seen else busy_s, busy_s=busy_s)

    return (
        Watched(name="ears", alive=lambda: ears.alive, progress=lambda: ears.progress, limit=lambda: _EARS),
        Watched(
            name="cutter",
            alive=lambda: cutter.alive,
            progress=lambda: cutter.progress,
            limit=lambda: _CUTTER if live else _PATIENT,
        ),
        Watched(
            name="scribe",
            alive=lambda: scribe.alive,
            progress=lambda: scribe.progress + parts_finished(),
            limit=of_scribe,
            has_libraries=True,
        ),
        Watched(
            name="courier",
            alive=lambda: courier.alive,
            progress=lambda: courier.progress,
            limit=lambda: _COURIER if courier.statistics().connected else _PATIENT,
        ),
    )
