"""The bridges against what their conventions expect, message by message."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import __version__
from edge_agent.config import Config, with_values
from edge_agent.mqtt.bridges import Bridges, Tell
from edge_agent.mqtt.bridges.hermes import Hermes
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.bridges.make import bridges
from edge_agent.mqtt.bridges.plain import Plain
from edge_agent.mqtt.commands import Flush, Mute, SelfTest, SetProfile, Unmute
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.wire import Topics, TranscriptBody, WordBody

TOPICS = Topics("edge", "kiosk-0042")


def final(text: str = "turn on the crane", **other: object) -> TranscriptBody:
    fields: dict = {
        "id": "0198f3a0-0000-7000-8000-000000000001",
        "seq": 8812,
        "rev": 1,
        "kind": "final",
        "text": text,
        "stable": text,
        "tail": "",
        "language": "en",
        "language_probability": 0.98,
        "confidence": 0.91,
        "words": tuple(
            WordBody(text=word, start_s=number * 0.5, end_s=number * 0.5 + 0.4, confidence=0.97)
            for number, word in enumerate(text.split())
        ),
        "start": "2026-11-20T13:00:00.120Z",
        "duration_ms": 2310,
        "clock_synced": True,
        "channel": 0,
        "device_id": "kiosk-0042",
        "site": "taipei-101",
        "profile": "p",
        "engine": "e",
        "model": "m",
        "flags": (),
    }
    return TranscriptBody(**{**fields, **other})


def said(topic: str, body: object = None, *, retain: bool = False) -> Message:
    payload = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return Message(topic=topic, payload=payload, retain=retain)


class TestHermes:
    """Snips and Rhasspy."""

    def test_a_final_is_text_captured(self) -> None:
        """Byte for byte what a consumer of the convention reads."""
        (post,) = Hermes("taipei-101").posts(final())
        assert post.topic == "hermes/asr/textCaptured"
        assert json.loads(post.payload) == {
            "text": "turn on the crane",
            "likelihood": 0.91,
            "seconds": 2.31,
            "siteId": "taipei-101",
            "sessionId": "0198f3a0-0000-7000-8000-000000000001",
            "wakewordId": None,
            "asrTokens": [
                [
                    {
                        "value": "turn",
                        "confidence": 0.97,
                        "rangeStart": 0,
                        "rangeEnd": 4,
                        "time": {"start": 0.0, "end": 0.4},
                    },
                    {
                        "value": "on",
                        "confidence": 0.97,
                        "rangeStart": 5,
                        "rangeEnd": 7,
                        "time": {"start": 0.5, "end": 0.9},
                    },
                    {
                        "value": "the",
                        "confidence": 0.97,
                        "rangeStart": 8,
                        "rangeEnd": 11,
                        "time": {"start": 1.0, "end": 1.4},
                    },
                    {
                        "value": "crane",
                        "confidence": 0.97,
                        "rangeStart": 12,
                        "rangeEnd": 17,
                        "time": {"start": 1.5, "end": 1.9},
                    },
                ]
            ],
            "lang": "en",
        }

    def test_a_session_gets_one_final_also_when_it_is_sent_again(self) -> None:
        """startListening names it; the next final carries it, the one after does not."""
        hermes = Hermes("s")
        hermes.incoming(said("hermes/asr/startListening", {"siteId": "s", "sessionId": "abc"}))

        def session(body: TranscriptBody) -> str:
            return json.loads(hermes.posts(body)[0].payload)["sessionId"]

        assert session(final()) == "abc"
        assert session(final(id="2")) == "2"
        assert session(final()) == "abc"

    def test_nothing_heard_is_told_only_to_a_session(self) -> None:
        """Its dialogue manager waits; nobody else does."""
        hermes = Hermes("s")
        assert hermes.posts(final("")) == ()
        hermes.incoming(said("hermes/asr/startListening", {"siteId": "s", "sessionId": "abc"}))
        assert json.loads(hermes.posts(final("", id="2"))[0].payload)["text"] == ""

    def test_toggles_mute_until_each_reason_is_gone(self) -> None:
        """Speech output and playback may overlap."""
        hermes = Hermes("s")
        off, on = "hermes/asr/toggleOff", "hermes/asr/toggleOn"
        assert hermes.incoming(said(off, {"siteId": "s", "reason": "ttsSay"})) == (Mute(),)
        assert hermes.incoming(said(off, {"siteId": "s", "reason": "playAudio"})) == ()
        assert hermes.incoming(said(on, {"siteId": "s", "reason": "ttsSay"})) == ()
        assert hermes.incoming(said(on, {"siteId": "s", "reason": "playAudio"})) == (Unmute(),)

    def test_stop_listening_flushes(self) -> None:
        """What was said so far is the answer."""
        assert Hermes("s").incoming(said("hermes/asr/stopListening", {"siteId": "s"})) == (Flush(),)

    @pytest.mark.parametrize(
        "message",
        [
            said("hermes/asr/toggleOff", {"siteId": "other"}),
            said("hermes/asr/toggleOff", {}),
            said("hermes/asr/toggleOff", {"siteId": "s"}, retain=True),
            said("hermes/asr/toggleOff", b"not json"),
            said("hermes/asr/toggleOff", {"siteId": ["s"]}),
            said("hermes/audioServer/s/audioFrame", b"RIFF"),
        ],
    )
    def test_what_is_not_for_us_does_nothing(self, message: Message) -> None:
        """Another site, the past, junk."""
        assert Hermes("s").incoming(message) == ()

    def test_the_default_site_is_named_default(self) -> None:
        """Messages without siteId are for the site of that name."""
        assert Hermes("default").incoming(said("hermes/asr/toggleOff", {})) == (Mute(),)

    def test_no_sound_ever(self) -> None:
        """It neither subscribes to audio nor publishes it."""
        assert not any("audio" in topic for topic in Hermes("s").filters)


class TestHomeAssistant:
    """Discovery by device."""

    def bridge(self) -> HomeAssistant:
        return HomeAssistant(TOPICS, site="lobby", profiles=("cpu-avx2", "cpu-minimal"))

    def body(self) -> dict:
        ((topic, payload),) = self.bridge().retained()
        assert topic == "homeassistant/device/kiosk-0042/config"
        return json.loads(payload)

    def test_the_device_is_announced_as_the_convention_wants_it(self) -> None:
        """device, origin, availability and one component per entity, each with platform and unique_id."""
        body = self.body()
        assert body["device"] == {
            "identifiers": ["edge-agent-kiosk-0042"],
            "name": "kiosk-0042",
            "manufacturer": "edge-asr-agent",
            "model": "speech recognition",
            "sw_version": __version__,
            "suggested_area": "lobby",
        }
        assert body["origin"] == {"name": "edge-agent", "sw_version": __version__}
        assert body["availability"][0]["topic"] == "edge/kiosk-0042/up/status"
        assert {name: part["platform"] for name, part in body["components"].items()} == {
            "transcript": "event",
            "last_text": "sensor",
            "latency": "sensor",
            "level": "sensor",
            "degraded": "binary_sensor",
            "mute": "switch",
            "profile": "select",
            "self_test": "button",
        }
        assert len({part["unique_id"] for part in body["components"].values()}) == 8

    def test_entities_read_topics_that_exist(self) -> None:
        """Each state comes from the contract's topics, each command goes below our own `down/`."""
        for part in self.body()["components"].values():
            assert part.get("state_topic", TOPICS.final) in {
                TOPICS.final,
                TOPICS.status,
                TOPICS.health,
                TOPICS.info,
            }
            assert part.get("command_topic", TOPICS.down + "/").startswith(TOPICS.down + "/")

    def test_templates_give_what_home_assistant_shows(self) -> None:
        """Rendered as Home Assistant renders them, on real payloads."""
        import jinja2 as jinja

        environment = jinja.Environment()
        environment.filters["tojson"] = json.dumps

        def show(entity: str, value: object) -> str:
            template = self.body()["components"][entity]["value_template"]
            return environment.from_string(template).render(value_json=value)

        spoken = msgspec.to_builtins(final("x" * 300, latency_ms=None)) | {"latency_ms": {"total": 493}}
        event = json.loads(show("transcript", spoken))
        assert event["event_type"] == "transcript"
        assert event["text"] == "x" * 300
        assert show("last_text", spoken) == "x" * 255
        assert show("latency", spoken) == "493"
        assert show("level", {"audio": {"rms_dbfs": -51.2}}) == "-51.2"
        assert show("mute", {"state": "muted"}) == "ON"
        assert show("mute", {"state": "online"}) == "OFF"
        assert show("degraded", {"state": "degraded"}) == "ON"
        assert show("profile", {"profile": "cpu-avx2"}) == "cpu-avx2"
        alive = environment.from_string(self.body()["availability"][0]["value_template"])
        shown = {
            state: alive.render(value_json={"state": state})
            for state in ("online", "muted", "stopped", "offline")
        }
        assert shown == {"online": "online", "muted": "online", "stopped": "offline", "offline": "offline"}

    def test_switch_select_and_button(self) -> None:
        """What Home Assistant sends is understood."""
        bridge, below = self.bridge(), TOPICS.down + "/home_assistant"
        assert bridge.incoming(said(f"{below}/mute", b"ON")) == (Mute(),)
        assert bridge.incoming(said(f"{below}/mute", b"OFF")) == (Unmute(),)
        assert bridge.incoming(said(f"{below}/mute", b"maybe")) == ()
        assert bridge.incoming(said(f"{below}/profile", b"cpu-minimal")) == (
            SetProfile(profile="cpu-minimal"),
        )
        assert bridge.incoming(said(f"{below}/profile", b"../x")) == ()
        assert bridge.incoming(said(f"{below}/self_test", b"PRESS")) == (SelfTest(),)
        assert bridge.incoming(said(f"{below}/mute", b"ON", retain=True)) == ()

    def test_it_announces_itself_again_when_home_assistant_is_born(self) -> None:
        """Retained or not; its death asks for nothing."""
        assert self.bridge().incoming(said("homeassistant/status", b"online")) == (Tell(),)
        assert self.bridge().incoming(said("homeassistant/status", b"offline")) == ()


def test_plain_is_the_text_alone() -> None:
    """As text/plain; nothing for an empty final."""
    (post,) = Plain(TOPICS).posts(final("開燈"))
    assert (post.topic, post.payload.decode()) == ("edge/kiosk-0042/up/text", "開燈")
    assert post.content_type == "text/plain"
    assert Plain(TOPICS).posts(final("")) == ()


def test_all_are_off_until_switched_on() -> None:
    """The default configuration speaks our own contract alone."""
    none = bridges(Config(), TOPICS, ())
    assert (none.filters, none.retained(), none.posts(final())) == ((), [], [])
    switched_on = {"bridges.hermes": True, "bridges.home_assistant": True, "bridges.plain": True}
    every = bridges(with_values(Config(), switched_on, "test"), TOPICS, ("p",))
    assert {post.topic for post in every.posts(final())} == {
        "hermes/asr/textCaptured",
        "edge/kiosk-0042/up/text",
    }
    assert len(every.retained()) == 1


@given(
    st.sampled_from([*Hermes.filters, *HomeAssistant(TOPICS, site="", profiles=()).filters, "x"]),
    st.binary(max_size=200) | st.text(max_size=99).map(str.encode),
    st.booleans(),
)
def test_no_message_makes_a_bridge_fall_over(topic: str, payload: bytes, retain: bool) -> None:
    """Whatever others publish on shared topics."""
    every = Bridges((Hermes("s"), HomeAssistant(TOPICS, site="", profiles=()), Plain(TOPICS)))
    every.incoming(Message(topic=topic, payload=payload, retain=retain))


@given(st.text(max_size=60), st.lists(st.text(max_size=9), max_size=6))
def test_any_final_can_be_bridged(text: str, words: list[str]) -> None:
    """Words need not even be in the text; ranges stay in order."""
    timed = tuple(WordBody(text=word, start_s=0, end_s=1, confidence=0.5) for word in words)
    (post,) = Hermes("s").posts(final(text or "x", words=timed))
    ranges = [(token["rangeStart"], token["rangeEnd"]) for token in json.loads(post.payload)["asrTokens"][0]]
    assert all(start <= end for start, end in ranges)
    assert ranges == sorted(ranges)
