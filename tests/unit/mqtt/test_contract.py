"""The published contract: JSON Schemas and the AsyncAPI document belong together."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml
from jsonschema import Draft202012Validator

from edge_agent.mqtt import wire
from edge_agent.mqtt.contract import schema

KINDS = ("status", "info", "health", "transcript", "gap", "event", "config", "answer")
"""What a device publishes."""
FOLDER = resources.files("edge_agent.mqtt") / "schemas"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_sound_schema(kind: str) -> None:
    """It is a JSON Schema, and names its kind and major."""
    Draft202012Validator.check_schema(schema(kind))
    assert schema(kind)["properties"]["schema"] == {"const": f"{kind}/1"}


def test_asyncapi_names_every_topic_and_refers_to_every_schema() -> None:
    """Same addresses as the code's, one operation each, quality of service as promised."""
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    topics = wire.Topics("edge", "dev")
    filled = {
        channel["address"].format(prefix="edge", device="dev") for channel in document["channels"].values()
    }
    assert document["asyncapi"] == "3.0.0"
    assert filled <= set(vars(topics).values())
    assert filled >= {
        topics.status,
        topics.info,
        topics.health,
        topics.final,
        topics.partial,
        topics.gap,
        topics.event,
        topics.config,
        topics.answer,
    }
    assert set(document["operations"]) == set(document["channels"])
    referred = {message["payload"]["$ref"] for message in document["components"]["messages"].values()}
    assert referred >= {f"{kind}.json" for kind in KINDS}
    at_most_once = {
        name
        for name, operation in document["operations"].items()
        if operation["bindings"]["mqtt"]["qos"] == 0
    }
    assert at_most_once == {"health", "partial"}
