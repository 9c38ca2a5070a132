"""The bridges that the configuration switches on."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.config import Config
from edge_agent.mqtt.bridges import Bridge, Bridges
from edge_agent.mqtt.bridges.hermes import Hermes
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.bridges.plain import Plain
from edge_agent.mqtt.wire import Topics


def bridges(config: Config, topics: Topics, profiles: Sequence[str]) -> Bridges:
    """Make them; `profiles` are the names Home Assistant may choose from."""
    wanted = config.bridges
    made: list[Bridge] = []
    if wanted.hermes:
        made.append(Hermes(config.device.site or topics.device_id))
    if wanted.home_assistant:
        made.append(HomeAssistant(topics, site=config.device.site, profiles=profiles))
    if wanted.plain:
        made.append(Plain(topics))
    return Bridges(made)
