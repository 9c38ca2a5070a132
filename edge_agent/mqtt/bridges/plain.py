"""Plain text: each final as text/plain on `<prefix>/<id>/up/text`, for signs and flow editors."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.mqtt.aside import Post
from edge_agent.mqtt.bridges import Ask
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.wire import Topics, TranscriptBody


class Plain:
    """See the module."""

    name = "plain"
    filters: tuple[str, ...] = ()

    def __init__(self, topics: Topics) -> None:
        self._topic = topics.text

    def retained(self) -> Sequence[tuple[str, bytes]]:
        """Nothing."""
        return ()

    def posts(self, body: TranscriptBody, /) -> Sequence[Post]:
        """The text, when there is any."""
        if not body.text:
            return ()
        return (Post(topic=self._topic, payload=body.text.encode(), content_type="text/plain"),)

    def incoming(self, _message: Message, /) -> Sequence[Ask]:
        """Nothing."""
        return ()
