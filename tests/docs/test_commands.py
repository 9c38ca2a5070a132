"""Every command line in the documents is run as it stands there, with a broker and a microphone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.audio.files import read_audio
from edge_agent.mqtt import contract
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.alsa.room import Room
from tests.broker import wait_until
from tests.docs.pages import PAIRS, REPOSITORY, all_pages, commands, path

SAMPLE = REPOSITORY / "edge_agent/samples/find_a_way_out.flac"
WORDS = "Let us talk it over and find a way out."
VENV = Path(sys.prefix)


@dataclass(frozen=True)
class Parsed:
    """Not run, for this reason; verb and options are held against the real parser where it is our command."""

    why: str


@dataclass(frozen=True)
class Elsewhere:
    """Run by another test: this file holds this text."""

    file: str
    text: str


@dataclass(frozen=True)
class Ends:
    """Run here, to its end."""


SYSTEM = (
    "changes packages, services or files of the whole system; tests/e2e/test_deb.py does it in a bare Debian"
)
ENGINE = Elsewhere("tests/systemd/test_ansible.py", "ansible-playbook")
ENROLMENT = Elsewhere("tests/e2e/test_enrolment.py", "ca.py")
FLEET = Elsewhere("tests/docs/test_fleet_pages.py", "mosquitto/README.md")
SIGNED = Elsewhere("tests/docs/test_fleet_pages.py", "fleet/README.md")
NOT_RUN = "from the documentation of another product, and said there to be untested"
SUITE = "runs the tests, this one among them; CI does (.ci/run)"

HOW: tuple[tuple[str, Parsed | Elsewhere], ...] = (
    (r"\./provisioning/test\.sh", Parsed(SUITE)),
    (r"\./provisioning/build-deb\.sh", Elsewhere("tests/bare_root.py", "build-deb.sh")),
    (r"sudo (apt|nano|systemctl) ", Parsed(SYSTEM)),
    (
        r"sudo edge-agent health",
        Parsed("needs the installed service; `edge-agent health` is run without sudo"),
    ),
    (
        r"\.venv/bin/edge-agent (run|listen|health|devices)",
        Elsewhere("tests/docs/test_commands.py", "use_it"),
    ),
    (r"edge-agent page", Elsewhere("tests/e2e/test_page.py", '"page"')),
    (r"edge-agent listen --device", Elsewhere("tests/docs/test_commands.py", "test_use_it")),
    (r"edge-agent doctor", Elsewhere("tests/e2e/test_doctor.py", '"--bundle"')),
    (r"edge-agent health", Elsewhere("tests/docs/test_commands.py", "test_use_it")),
    (r"edge-agent models convert breeze", Elsewhere("tests/unit/models/test_convert.py", "safetensors")),
    (
        r"python provisioning/examples/subscriber",
        Elsewhere("tests/docs/test_subscribers.py", "subscriber.py"),
    ),
    (r"EDGE_BROKER=", Elsewhere("tests/docs/test_subscribers.py", "node-red-flow.json")),
    (r"ansible-playbook", ENGINE),
    (r"\./(ca|enroll)\.py", ENROLMENT),
    (r"\./make-certs\.sh|sed 's\|@DIR@|install -m 644 acl", FLEET),
    (r"edge-agent listen --url mqtts|mosquitto_pub", FLEET),
    (r"chmod 755 /etc/mosquitto|chown mosquitto|systemctl restart mosquitto", Parsed(SYSTEM)),
    (r"mosquitto_passwd", Elsewhere("tests/e2e/test_fleet_page_broker.py", "mosquitto_passwd")),
    (r"\./repository\.py", SIGNED),
    (r"\./rollout\.py", Elsewhere("tests/e2e/test_rollout.py", "fleet/rollout.py")),
    (r"rsync", Parsed("copies to a web server that this machine does not have")),
    (r"echo '\{\"mqtt_url", Elsewhere("tests/docs/test_fleet_pages.py", "enroll/README.md")),
    (r"step |\(umask|chown edge-agent|cp \"\$\(step", Parsed(NOT_RUN)),
)


@cache
def lines() -> dict[str, Path]:
    """Every command line once, with the first page it stands on."""
    found: dict[str, Path] = {}
    for page in all_pages():
        for command in commands(page):
            found.setdefault(command, page)
    return found


def how(command: str) -> Parsed | Elsewhere | Ends:
    return next((kind for begin, kind in HOW if re.match(begin, command)), Ends())


def of(kind: type) -> list[str]:
    return [command for command in lines() if isinstance(how(command), kind)]


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    """One broker for all commands."""
    with PrivateBroker() as running:
        yield running


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a user has it after the first command: set up, so that nothing is installed again."""
    place = tmp_path_factory.mktemp("checkout")
    for entry in REPOSITORY.iterdir():
        if entry.name not in {".venv", ".git", "dist"}:
            (place / entry.name).symlink_to(entry)
    venv = place / ".venv"
    venv.mkdir()
    for entry in VENV.iterdir():
        (venv / entry.name).symlink_to(entry)
    digest = hashlib.sha256((REPOSITORY / "pyproject.toml").read_bytes()).hexdigest()
    stamp = venv / ".edge-agent-cpu,alsa"
    stamp.unlink(missing_ok=True)
    stamp.write_text(f"{digest} {place}")
    return place


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A microphone at which somebody says a sentence every few seconds."""
    once = np.concatenate((np.zeros(16_000, np.float32), read_audio(SAMPLE), np.zeros(24_000, np.float32)))
    noise = np.random.default_rng(1).normal(0, 2e-4, len(once) * 10).astype(np.float32)
    return Room(tmp_path_factory.mktemp("room"), np.tile(once, 10) + noise)


@pytest.fixture
def environment(broker: PrivateBroker, room: Room, tmp_path: Path) -> dict[str, str]:
    """A user's shell: the commands on the PATH, the default configuration file, the broker of this test."""
    (tmp_path / "config/edge-agent").mkdir(parents=True)
    file = tmp_path / "config/edge-agent/agent.toml"
    file.write_text(f'[mqtt]\nurl = "{broker.url}"\n[device]\nid = "kiosk-0042"\n', encoding="utf-8")
    return {
        **room.environment,
        "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        "EDGE_AGENT_CONFIG": str(file),
        "PIP_NO_INDEX": "1",  # everything is there; a script that thinks otherwise fails and installs nothing
        "EDGE_AGENT_STATE": str(tmp_path / "state"),
    }


def shell(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One line to its end, as bash runs it."""
    return subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def minutes(command: str) -> list[pytest.MarkDecorator]:
    """Measuring takes its time."""
    return [pytest.mark.slow] if " bench " in command else []


@pytest.mark.parametrize("command", [pytest.param(c, marks=minutes(c)) for c in of(Ends)])
def test_runs(command: str, checkout: Path, environment: dict[str, str], broker: PrivateBroker) -> None:
    """It ends well. The demo need not take the time of its recordings here, and shows what it received."""
    quick = f"{command} --fast --json" if command == "./provisioning/demo.sh" else command
    done = shell(quick, checkout, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    if "demo.sh" in command:
        assert WORDS in done.stdout
        received = [json.loads(line) for line in done.stdout.splitlines()]
        for kind in ("health", "info"):
            body = next(m["payload"] for m in received if m["topic"].endswith(f"/up/{kind}"))
            assert_has(body, contract.schema(kind))


def assert_has(body: dict, schema: dict) -> None:
    """Every field that the contract tells of is in the message: none is told of that there is not."""
    for name, part in schema["properties"].items():
        assert name in body
        if part.get("type") == "object" and "properties" in part:
            assert_has(body[name], part)


@pytest.mark.parametrize("command", [*of(Parsed), *of(Elsewhere)])
def test_what_is_not_run_here_could_be(command: str) -> None:
    """Our own commands are taken by the real parser; what other tests run is there."""
    kind = how(command)
    if isinstance(kind, Elsewhere):
        assert kind.text in (REPOSITORY / kind.file).read_text(encoding="utf-8")
    else:
        assert len(kind.why) > 20
    words = shlex.split(command.replace("TOKEN", "t"), comments=True)
    while words and (words[0] == "sudo" or "=" in words[0]):
        words.pop(0)
    if words[0].endswith("edge-agent"):
        arguments = cli._parser(words[1]).parse_args(words[1:])
        assert callable(arguments.run)
    elif words[0].startswith("./") and shutil.which("bash"):
        script = next(
            (f for f in REPOSITORY.glob(f"provisioning/**/{Path(words[0]).name}") if f.is_file()), None
        )
        assert script is not None, command
        assert os.access(script, os.X_OK), f"{script} cannot be started as it is written"


def test_use_it(checkout: Path, environment: dict[str, str], broker: PrivateBroker, tmp_path: Path) -> None:
    """The commands of "Use it", side by side: microphones listed, the agent heard, the box well."""
    page = commands(path("README", "en"))
    devices, run, listen, health = (
        next(c for c in page if c.startswith(f".venv/bin/edge-agent {verb}"))
        for verb in ("devices", "run", "listen", "health")
    )
    listed = shell(devices, checkout, environment)
    assert listed.returncode == 0, listed.stderr
    assert "alsa:default" in listed.stdout
    run = run.replace("mqtt://127.0.0.1:1883", broker.url)
    agent = started(run, checkout, environment, tmp_path / "agent")
    listener = started(listen, checkout, environment, tmp_path / "heard")
    afar = next(command for command in lines() if command.startswith("edge-agent listen --device"))
    second = started(afar, checkout, environment, tmp_path / "afar")
    try:
        wait_until(lambda: WORDS in (tmp_path / "heard").read_text(), 40, "the words at the listener")
        assert open_ports(agent.pid) == [], "the service listens on no port"
        for command in (health, *(look for look in lines() if look.startswith("edge-agent health"))):
            done = shell(command, checkout, environment)
            assert done.returncode in (0, 3), done.stdout + done.stderr
    finally:
        for process in (agent, listener, second):
            process.send_signal(signal.SIGINT)
        assert [process.wait(15) for process in (listener, second, agent)] == [0, 0, 0]
    assert "kiosk-0042" in (tmp_path / "afar").read_text()


def open_ports(pid: int) -> list[str]:
    """Local addresses at which a process waits for connections, TCP, as /proc has them."""
    mine = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    ]
    assert any(f"socket:[{row[9]}]" in mine for row in rows), "its connection to the broker is seen"
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]


def started(command: str, folder: Path, environment: dict[str, str], out: Path) -> subprocess.Popen[bytes]:
    """A command that goes on."""
    with out.open("wb") as file:
        return subprocess.Popen(
            shlex.split(command),
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
        )


def spoken_of() -> list[str]:
    """Our commands within the text, each once, with something in the place of what the reader fills in."""
    found: dict[str, None] = {}
    for page in all_pages():
        for span in re.findall(
            r"`((?:\.venv/bin/)?edge-agent [a-z][^`]*)`", page.read_text(encoding="utf-8")
        ):
            found[re.sub(r"\bN\b", "1", span)] = None
    return list(found)


@pytest.mark.parametrize("command", spoken_of())
def test_commands_within_the_text_are_understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Verb, actions and options are those of the real parser; what is to be filled in may be missing."""
    words = shlex.split(command)[1:]
    try:
        cli._parser(words[0]).parse_args(words)
    except SystemExit:
        assert re.search("required|expected one argument", capsys.readouterr().err), command


def test_suites_that_the_text_names_are_there() -> None:
    """As in `./provisioning/test.sh slow`."""
    script = (REPOSITORY / "provisioning/test.sh").read_text(encoding="utf-8")
    named = {
        suite
        for page in all_pages()
        for suite in re.findall(r"`\./provisioning/test\.sh (\w+)`", page.read_text(encoding="utf-8"))
    }
    assert named >= {"slow", "systemd"}
    for suite in named:
        assert re.search(rf"^    ([\w| ]+ )?{suite}( [\w| ]+)?\)$", script, re.MULTILINE), suite


def test_each_line_of_the_list_is_needed() -> None:
    """A way to treat commands that no page has any more is taken out."""
    for begin, _ in HOW:
        assert any(re.match(begin, command) for command in lines()), begin


def test_the_two_commands_are_in_both_readmes() -> None:
    """Demo and tests, and nothing that only one language has."""
    for language in ("en", "zh"):
        assert commands(path(PAIRS[0], language))[:2] == ["./provisioning/demo.sh", "./provisioning/test.sh"]
