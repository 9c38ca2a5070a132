"""The configuration file: what is accepted, and the one line said about everything else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import config
from edge_agent.errors import ConfigError

CONTRACT = """
[device]
id = "kiosk-0042"
site = "taipei-101"
[audio]
source = "alsa:default"
channels = 2
use_channels = [0, 1]
[recognition]
profile = "auto"
model = ""
language = ["en", "zh"]
script = "Hant"
prompt = ""
terms = ["crane"]
partials = true
partial_interval_ms = 500
speculation = "auto"
[endpoint]
silence_ms = 600
probe_ms = 200
max_utterance_s = 28
[gate]
mode = "wake"
model = "/var/lib/edge-agent/wake/computer.onnx"
threshold = 0.6
refractory_s = 2
listen_s = 8
pre_roll_ms = 500
wake_pre_roll_ms = 0
[mqtt]
url = "mqtts://broker.example:8883"
prefix = "edge"
[outbox]
quota_mb = 256
keep_delivered_h = 72
[bridges]
hermes = false
home_assistant = false
plain = false
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_of_the_contract_is_read(tmp_path: Path) -> None:
    """The documented file is accepted as it stands."""
    loaded = config.load(write(tmp_path, CONTRACT), [])
    assert loaded.device.id == "kiosk-0042"
    assert loaded.languages == ("en", "zh")
    assert loaded.endpoint.max_utterance_s == 28
    assert loaded.audio.use_channels == (0, 1)


def test_no_file_means_defaults() -> None:
    """Nothing configured is a working configuration."""
    loaded = config.load(None, [])
    assert loaded.mqtt.url == "mqtt://127.0.0.1:1883"
    assert loaded.endpoint.silence_ms is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[mqtt]\nulr = "mqtt://x"', ["unknown key mqtt.ulr", "did you mean mqtt.url?"]),
        ("[bananas]\na = 1", ["unknown key bananas", "known here"]),
        ('[audio]\nchannels = "two"', ["audio.channels", "int"]),
        ("[endpoint]\nsilence_ms = 5", ["endpoint.silence_ms"]),
        ("[audio]\nuse_channels = [3]", ["audio.use_channels", "from 0 to 0"]),
        ('[audio]\nsource = "http://x"', ["audio.source", "alsa:"]),
        ('[device]\nid = "a/b"', ["device.id", "MQTT topic"]),
        ('[recognition]\nlanguage = "english please"', ["recognition.language", "tag"]),
        ("[endpoint]\nsilence_ms = 300\nprobe_ms = 400", ["endpoint.probe_ms"]),
        ("= 3", ["not valid TOML"]),
        ("[mqtt]\nurl = 7", ["mqtt.url"]),
    ],
)
def test_a_fault_is_named_with_file_key_and_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    """Each fault is one line that names the file, the key and the next step."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path, [])
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    for part in says:
        assert part in line
    assert caught.value.exit_code == 78


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there says so."""
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "absent.toml", [])


def test_overrides_win_and_are_typed(tmp_path: Path) -> None:
    """--set values are TOML where they parse, text otherwise."""
    loaded = config.load(
        write(tmp_path, CONTRACT),
        ["endpoint.silence_ms=300", "recognition.language=de", "recognition.partials=false"],
    )
    assert loaded.endpoint.silence_ms == 300
    assert loaded.recognition.language == "de"
    assert loaded.recognition.partials is False


@pytest.mark.parametrize("assignment", ["mqtt.prefix", "=x", ".=1", "mqtt=1", "device.id.x=1"])
def test_unusable_overrides_are_refused(tmp_path: Path, assignment: str) -> None:
    """A malformed --set is a configuration error."""
    with pytest.raises(ConfigError):
        config.load(write(tmp_path, CONTRACT), [assignment])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_no_text_makes_the_reader_fall_over(tmp_path: Path, text: str) -> None:
    """Whatever the file holds, the answer is a configuration or a ConfigError."""
    path = tmp_path / "agent.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        config.load(path, [])


def test_the_machine_id_is_not_published(tmp_path: Path) -> None:
    """The device id is derived from the machine id without containing it."""
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("0123456789abcdef0123456789abcdef\n")
    made = config.device_id(config.Config(), tmp_path, machine_id)
    assert made == config.device_id(config.Config(), tmp_path, machine_id)
    assert made.startswith("edge-")
    assert made[5:] not in "0123456789abcdef0123456789abcdef"


def test_without_a_machine_id_a_random_one_is_kept(tmp_path: Path) -> None:
    """A box without a machine id keeps the id it drew first."""
    absent = tmp_path / "absent"
    first = config.device_id(config.Config(), tmp_path / "state", absent)
    assert config.device_id(config.Config(), tmp_path / "state", absent) == first
    (tmp_path / "state/device.json").write_text("{damaged")
    assert config.device_id(config.Config(), tmp_path / "state", absent) != first


def test_several_devices_may_be_named() -> None:
    """One name or a list; each must be a source."""
    several = config.load(None, ['audio.source=["alsa:one", "alsa:two"]'])
    assert several.audio.sources == ("alsa:one", "alsa:two")
    assert config.load(None, []).audio.sources == ("alsa:default",)
    for wrong in ('["alsa:one", "tape:1"]', "[]"):
        with pytest.raises(ConfigError, match=r"audio\.source"):
            config.load(None, [f"audio.source={wrong}"])
