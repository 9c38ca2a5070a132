"""A user's mistake gets one line with cause and next step, the right exit code, and no traceback."""

from __future__ import annotations

import socket
import wave
from pathlib import Path

import pytest

from tests.e2e.agent_process import edge_agent


def one_line(done, code: int, *says: str) -> None:
    """Assert the exit code and that the only line on stderr says all of it."""
    assert done.returncode == code, (done.returncode, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("edge-agent: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "; " in lines[0], "a cause and a remedy"
    for part in says:
        assert part in lines[0]


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[mqtt]\nurll = "mqtt://x"', ("mqtt.urll", "did you mean mqtt.url?")),
        ("[audio]\nchannels = true", ("audio.channels",)),
        ('[recognition]\nprofile = "cpu-avx51"', ("cpu-avx51", "cpu-avx512-vnni")),
        ('[mqtt]\nurl = "http://x"', ("mqtt.url",)),
        ('[mqtt]\nusername = "u"\npassword_file = "/nowhere/pw"', ("mqtt.password_file", "/nowhere/pw")),
        ('[mqtt]\nurl = "mqtts://x"\nca_file = "/nowhere/ca"', ("mqtt.ca_file", "/nowhere/ca")),
        ('[audio]\nsource = "tape:1"', ("audio.source", "alsa:")),
    ],
)
def test_a_wrong_configuration_ends_with_78(tmp_path: Path, text: str, says: tuple[str, ...]) -> None:
    """The service manager must not restart on these."""
    one_line(edge_agent("run", "--config", config(tmp_path, text)), 78, *says)


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    """--config with a path that is not there."""
    one_line(edge_agent("run", "--config", str(tmp_path / "no.toml")), 78, "no.toml", "cannot be read")


def test_an_extends_cycle_is_told(tmp_path: Path) -> None:
    """Two profiles that extend each other."""
    (tmp_path / "a.toml").write_text('extends = "b"\n')
    (tmp_path / "b.toml").write_text('extends = "a"\n')
    one_line(edge_agent("detect", EDGE_AGENT_PROFILES=str(tmp_path)), 78, "circle")


def test_a_machine_no_profile_fits(tmp_path: Path) -> None:
    """A root that describes a 32-bit ARM board."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\nFeatures\t: half thumb vfp\n"
        "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU part\t: 0xb76\n\nHardware\t: BCM2835\n"
    )
    (tmp_path / "proc/meminfo").write_text("MemTotal: 443080 kB\nMemAvailable: 300000 kB\n")
    one_line(edge_agent("detect", "--root", str(tmp_path)), 78, "no profile fits", "64-bit")


def test_a_missing_model_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    """An empty store."""
    done = edge_agent("run", "--set", "audio.source=stdin:", EDGE_AGENT_MODELS=str(tmp_path / "none"))
    one_line(done, 1, "whisper-base", "edge-agent models pull whisper-base")


def test_an_unknown_model_is_named() -> None:
    """A slip in the model's name."""
    done = edge_agent("run", "--set", "audio.source=stdin:", "--set", "recognition.model=whisper-bse")
    one_line(done, 1, "whisper-bse")


def test_no_broker_is_unreachable() -> None:
    """Nothing listens on the port: exit 69."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_line(edge_agent("listen", "--raw", "--url", f"mqtt://127.0.0.1:{port}"), 69, str(port))


def test_a_file_that_is_no_sound(tmp_path: Path) -> None:
    """Text with the name of a recording."""
    path = tmp_path / "words.wav"
    path.write_text("not a recording")
    one_line(edge_agent("demo", str(path)), 2, "words.wav")
    one_line(edge_agent("transcribe", str(path)), 2, "words.wav")


def test_an_empty_recording(tmp_path: Path) -> None:
    """A header without samples."""
    path = tmp_path / "empty.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    one_line(edge_agent("demo", str(path)), 2, "empty.wav")


def test_a_recording_that_is_not_there() -> None:
    """A path that does not exist."""
    one_line(edge_agent("transcribe", "/nowhere/at/all.wav"), 2, "all.wav")


def test_wrong_usage_ends_with_2() -> None:
    """An unknown option is the parser's own business."""
    done = edge_agent("demo", "--loud")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "verb",
    [
        "demo",
        "run",
        "detect",
        "profiles",
        "devices",
        "transcribe",
        "listen",
        "models",
        "health",
        "outbox",
        "bench",
    ],
)
def test_every_verb_explains_itself(verb: str) -> None:
    """--help says what the verb does and lists its options."""
    done = edge_agent(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200
