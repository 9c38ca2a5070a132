"""Where what the cutter tells goes: into the scribe's work, the notes of what is open, and the events."""

from __future__ import annotations

from edge_agent.audio.cutter import Callbacks
from edge_agent.events import Events
from edge_agent.types import Utterance, Wake
from edge_agent.unfinished import Notes
from edge_agent.work import Work


def callbacks(work: Work, notes: Notes, events: Events) -> Callbacks:
    """For `audio.cutter`; called on its thread, quick."""

    def started(channel: int, start_ns: int) -> None:
        work.started(channel, start_ns)
        notes.started(channel)
        events.say("speech_start", channel=channel)

    def ended(utterance: Utterance) -> None:
        notes.ended(utterance)
        work.final(utterance)
        events.say("speech_end", channel=utterance.channel, id=utterance.id)

    def opened(channel: int, wake: Wake | None) -> None:
        if wake is not None:
            events.say("wake", channel=channel, word=wake.word, score=round(wake.score, 3))
        events.say("listen_start", channel=channel, by="command" if wake is None else "wake")

    return Callbacks(
        on_utterance=ended,
        on_gap=work.gap,
        on_started=started,
        on_paused=lambda _channel, snapshot: work.paused(snapshot),
        on_resumed=work.resumed,
        on_opened=opened,
        on_closed=lambda channel: events.say("listen_end", channel=channel),
    )
