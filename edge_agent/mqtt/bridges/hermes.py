"""Hermes, the protocol of Snips and Rhasspy: finals as `hermes/asr/textCaptured`, and its toggles.

Sites share topics and are told apart by `siteId`: ours is `device.site`, or the device id where that is
empty. A dialogue manager opens a session with startListening; the first final after it carries its sessionId.
Every other final carries its own id there. `toggleOff` may be said for several reasons at a time (speech
output, playback): we listen again when each of them was taken back. Never any sound: no audioFrame.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec
from msgspec import UnsetType

from edge_agent.mqtt.aside import Post
from edge_agent.mqtt.bridges import Ask
from edge_agent.mqtt.commands import MAX_BYTES, Flush, Mute, Unmute
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.wire import TranscriptBody

_ASR = "hermes/asr/"
_MAX_REASONS = 16


class _Wanted(msgspec.Struct, frozen=True):
    """What the toggles and startListening carry; other fields are ignored."""

    siteId: str = "default"  # noqa: N815 - the field's name in the convention
    sessionId: str | None = None  # noqa: N815 - the field's name in the convention
    reason: str = ""


class Hermes:
    """See the module.

    Args:
        site_id: ours.
    """

    name = "hermes"
    filters = tuple(_ASR + name for name in ("toggleOn", "toggleOff", "startListening", "stopListening"))

    def __init__(self, site_id: str) -> None:
        self._site_id = site_id
        self._lock = threading.Lock()
        self._session: str | None = None
        self._answered = ("", "")  # the final that answered the last session, and the session
        self._off: set[str] = set()

    def retained(self) -> Sequence[tuple[str, bytes]]:
        """Nothing: Hermes knows no presence."""
        return ()

    def posts(self, body: TranscriptBody, /) -> Sequence[Post]:
        """textCaptured; also without words when a session waits for them."""
        session = self._session_for(body.id)
        if not body.text and session is None:
            return ()
        payload = msgspec.json.encode(
            {
                "text": body.text,
                "likelihood": body.confidence,
                "seconds": round(body.duration_ms / 1000, 3),
                "siteId": self._site_id,
                "sessionId": session if session is not None else body.id,
                "wakewordId": None if isinstance(body.wake, UnsetType) else body.wake.word,
                "asrTokens": [_tokens(body)],
                "lang": body.language,
            }
        )
        return (Post(topic=_ASR + "textCaptured", payload=payload),)

    def _session_for(self, final_id: str) -> str | None:
        """The session that a final answers; the same when it is sent again."""
        with self._lock:
            if self._answered[0] == final_id:
                return self._answered[1]
            session, self._session = self._session, None
            if session is not None:
                self._answered = (final_id, session)
            return session

    def incoming(self, message: Message, /) -> Sequence[Ask]:
        """Toggles become mute and unmute, the end of a session a flush."""
        wanted = self._read(message)
        if wanted is None:
            return ()
        what = message.topic.removeprefix(_ASR)
        if what == "toggleOff":
            return self._switched_off(wanted.reason[:64])
        if what == "toggleOn":
            self._off.discard(wanted.reason[:64])
            return () if self._off else (Unmute(),)
        if what == "startListening":
            with self._lock:
                self._session = wanted.sessionId
            return ()
        return (Flush(),)

    def _switched_off(self, reason: str) -> Sequence[Ask]:
        was_on = not self._off
        if len(self._off) < _MAX_REASONS:
            self._off.add(reason)
        return (Mute(),) if was_on else ()

    def _read(self, message: Message) -> _Wanted | None:
        if message.topic not in self.filters or message.retain or len(message.payload) > MAX_BYTES:
            return None
        try:
            wanted = msgspec.json.decode(message.payload or b"{}", type=_Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return wanted if wanted.siteId == self._site_id else None


def _tokens(body: TranscriptBody) -> list[dict[str, object]]:
    """Words with their character ranges in the text and their times in seconds from its start."""
    tokens: list[dict[str, object]] = []
    at = 0
    for word in body.words:
        value = word.text.strip()
        found = body.text.find(value, at)
        start = found if found >= 0 else at
        at = start + len(value)
        tokens.append(
            {
                "value": value,
                "confidence": word.confidence,
                "rangeStart": start,
                "rangeEnd": at,
                "time": {"start": word.start_s, "end": word.end_s},
            }
        )
    return tokens
