"""Home Assistant: one retained discovery message; its entities read our own topics.

Transcripts, presence and gauges need no second form: templates take them from the contract's payloads, so
they come with the same guarantees. What Home Assistant switches comes back on topics below our `down/`, where
the broker's permissions already stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_agent import __version__
from edge_agent.mqtt.aside import Post
from edge_agent.mqtt.bridges import Ask, Tell
from edge_agent.mqtt.commands import Mute, SelfTest, SetProfile, Unmute
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.wire import Topics, TranscriptBody

BIRTH_TOPIC = "homeassistant/status"
_STATE_LIMIT = 255  # of a sensor's text in Home Assistant
_ALIVE = "{{ 'offline' if value_json.state in ['offline', 'stopped'] else 'online' }}"
_EVENT = (
    "{{ {'event_type': 'transcript', 'text': value_json.text, 'id': value_json.id, 'seq': value_json.seq,"
    " 'language': value_json.language, 'confidence': value_json.confidence, 'start': value_json.start,"
    " 'channel': value_json.channel} | tojson }}"
)


class HomeAssistant:
    """See the module.

    Args:
        topics: of this device.
        site: free text, shown as the device's area.
        profiles: names that may be chosen.
    """

    name = "home_assistant"

    def __init__(self, topics: Topics, *, site: str, profiles: Sequence[str]) -> None:
        self._topics, self._site = topics, site
        self._profiles = ("auto", *profiles)
        below = f"{topics.down}/home_assistant"
        self._mute, self._profile, self._test = f"{below}/mute", f"{below}/profile", f"{below}/self_test"
        self.filters = (BIRTH_TOPIC, self._mute, self._profile, self._test)

    def retained(self) -> Sequence[tuple[str, bytes]]:
        """The discovery message."""
        device_id = self._topics.device_id
        about: dict[str, object] = {
            "identifiers": [f"edge-agent-{device_id}"],
            "name": device_id,
            "manufacturer": "edge-asr-agent",
            "model": "speech recognition",
            "sw_version": __version__,
        }
        if self._site:
            about["suggested_area"] = self._site
        body = {
            "device": about,
            "origin": {"name": "edge-agent", "sw_version": __version__},
            "availability": [{"topic": self._topics.status, "value_template": _ALIVE}],
            "qos": 1,
            "components": {
                name: {"unique_id": f"edge-agent-{device_id}-{name}", **component}
                for name, component in {**self._told(), **self._switched()}.items()
            },
        }
        return ((f"homeassistant/device/{device_id}/config", msgspec.json.encode(body)),)

    def _told(self) -> dict[str, dict[str, object]]:
        """Entities that only show something."""
        final, status, health = self._topics.final, self._topics.status, self._topics.health
        return {
            "transcript": {
                "platform": "event",
                "name": "Transcript",
                "state_topic": final,
                "event_types": ["transcript"],
                "value_template": _EVENT,
            },
            "last_text": {
                "platform": "sensor",
                "name": "Last text",
                "state_topic": final,
                "value_template": f"{{{{ value_json.text[:{_STATE_LIMIT}] }}}}",
            },
            "latency": {
                "platform": "sensor",
                "name": "Latency",
                "state_topic": final,
                "value_template": "{{ value_json.latency_ms.total }}",
                "unit_of_measurement": "ms",
                "state_class": "measurement",
                "entity_category": "diagnostic",
            },
            "level": {
                "platform": "sensor",
                "name": "Level",
                "state_topic": health,
                "value_template": "{{ value_json.audio.rms_dbfs }}",
                "unit_of_measurement": "dB",
                "state_class": "measurement",
                "entity_category": "diagnostic",
            },
            "degraded": {
                "platform": "binary_sensor",
                "name": "Degraded",
                "device_class": "problem",
                "state_topic": status,
                "value_template": "{{ 'ON' if value_json.state == 'degraded' else 'OFF' }}",
                "entity_category": "diagnostic",
            },
        }

    def _switched(self) -> dict[str, dict[str, object]]:
        """Entities that ask us for something."""
        return {
            "mute": {
                "platform": "switch",
                "name": "Mute",
                "icon": "mdi:microphone-off",
                "command_topic": self._mute,
                "state_topic": self._topics.status,
                "value_template": "{{ 'ON' if value_json.state == 'muted' else 'OFF' }}",
            },
            "profile": {
                "platform": "select",
                "name": "Profile",
                "command_topic": self._profile,
                "state_topic": self._topics.info,
                "value_template": "{{ value_json.profile }}",
                "options": list(self._profiles),
                "entity_category": "config",
            },
            "self_test": {
                "platform": "button",
                "name": "Self-test",
                "command_topic": self._test,
                "entity_category": "diagnostic",
            },
        }

    def posts(self, _body: TranscriptBody, /) -> Sequence[Post]:
        """Nothing: the entities read the final itself."""
        return ()

    def incoming(self, message: Message, /) -> Sequence[Ask]:
        """What Home Assistant switches, and its birth, which asks for the discovery message again."""
        if message.topic == BIRTH_TOPIC:
            return (Tell(),) if message.payload == b"online" else ()
        if message.retain:
            return ()
        asked = message.payload[:100].decode("utf-8", errors="replace")
        if message.topic == self._mute:
            return (Mute(),) if asked == "ON" else (Unmute(),) if asked == "OFF" else ()
        if message.topic == self._profile and asked in self._profiles:
            return (SetProfile(profile=asked),)
        if message.topic == self._test:
            return (SelfTest(),)
        return ()
