"""The service: presence, clean stops, kills, and a broker that comes and goes."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess, edge_agent

SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"
WORDS = "Let us talk it over and find a way out."


def settings(broker: PrivateBroker, source: str) -> tuple[str, ...]:
    return (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"')


def looped() -> str:
    return f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"


def committed(state: Path) -> dict[int, str]:
    """seq -> id of everything in the outbox."""
    with sqlite3.connect(f"file:{state / 'outbox.sqlite3'}?mode=ro", uri=True) as store:
        table = store.execute(
            "select name from sqlite_master where type='table' and sql like '%payload%'"
        ).fetchone()[0]
        return dict(store.execute(f"select seq, id from {table}").fetchall())


def test_it_reports_ready_listens_and_says_stopped(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """READY to the service manager, online, words, and `stopped` within 5 s of SIGTERM."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        box = AgentProcess(tmp_path / "state", *settings(broker, looped()), NOTIFY_SOCKET=str(address))
        with box:
            told = b""
            while b"READY=1" not in told:
                told = manager.recv(4096)
            wait_until(lambda: [m for m in subscriber.on("/status") if m.body["state"] == "online"], 10)
            wait_until(lambda: subscriber.on("/transcript/final"), 20, "a first final")
            began = time.monotonic()
            assert box.terminate() == 0, box.log
            assert time.monotonic() - began < 5
    wait_until(lambda: subscriber.on("/status")[-1].body["state"] == "stopped", 5)
    assert subscriber.on("/transcript/final")[0].body["text"] == WORDS


def test_sigterm_in_mid_sentence_flushes_what_was_said(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """The open utterance is decoded and delivered before the process ends."""
    source = f"file:{SAMPLES / 'first_time_in_boston.flac'}"
    with AgentProcess(tmp_path / "state", *settings(broker, source)) as box:
        wait_until(lambda: "listening" in box.log, 30)
        time.sleep(2.2)
        assert box.terminate() == 0
    wait_until(lambda: subscriber.on("/transcript/final"), 5, "the flushed final")
    body = subscriber.on("/transcript/final")[0].body
    assert "cut:stop" in body["flags"]
    assert body["text"].startswith("They saw each other")


def test_an_utterance_in_which_it_is_killed_becomes_a_gap(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """kill -9 in mid-sentence: the next start says first what was lost, under the utterance's own id."""
    source = f"file:{SAMPLES / 'first_time_in_boston.flac'}"
    box = AgentProcess(tmp_path / "state", *settings(broker, source))
    with box:
        wait_until(lambda: subscriber.on("/transcript/partial"), 40, "a first partial")
        time.sleep(1.2)
        partial = subscriber.on("/transcript/partial")[-1].body
        box.kill()
    assert subscriber.on("/transcript/final") == []
    with box:
        wait_until(lambda: subscriber.on("/transcript/final"), 40, "the words of the second run")
        box.terminate()
    gaps = [message.body for message in subscriber.on("/gap")]
    assert [(gap["id"], gap["cause"], gap["seq"]) for gap in gaps] == [(partial["id"], "restart", 1)]
    assert gaps[0]["start"] == partial["start"]
    assert partial["duration_ms"] - 1000 <= gaps[0]["duration_ms"] <= partial["duration_ms"] + 1500
    assert subscriber.on("/transcript/final")[0].body["seq"] == 2


def test_a_killed_agent_is_offline_by_its_will(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """The retained status is truthful within two seconds of a kill."""
    with AgentProcess(tmp_path / "state", *settings(broker, looped())) as box:
        wait_until(lambda: subscriber.on("/status"), 30)
        box.kill()
        wait_until(lambda: subscriber.on("/status")[-1].body["state"] == "offline", 2)


def test_two_agents_on_one_state_are_refused(tmp_path: Path, broker: PrivateBroker) -> None:
    """The second one would share outbox and identity."""
    state = tmp_path / "state"
    with AgentProcess(state, *settings(broker, looped())) as box:
        wait_until(lambda: "listening" in box.log, 30)
        overrides = [part for one in settings(broker, looped()) for part in ("--set", one)]
        second = edge_agent("run", *overrides, EDGE_AGENT_STATE=str(state))
    assert second.returncode == 2
    assert "already runs" in second.stderr


def test_a_recording_ends_the_service_when_all_is_delivered(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """file: without loop is a complete job: exit 0 with its words at the broker."""
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}"
    with AgentProcess(tmp_path / "state", *settings(broker, source)) as box:
        assert box.process.wait(40) == 0, box.log
    assert [m.body["text"] for m in subscriber.on("/transcript/final")] == [WORDS]


def test_words_wait_for_a_broker_that_comes_late(tmp_path: Path) -> None:
    """No broker at start: transcribed, kept, and delivered when it appears."""
    with PrivateBroker() as broker:
        broker.kill()
        with AgentProcess(tmp_path / "state", *settings(broker, looped())) as box:
            wait_until(lambda: "latency_ms" in box.log, 40, "a final while nobody listens")
            broker.start()
            with Subscriber(broker.port) as late:
                wait_until(lambda: late.on("/transcript/final"), 20, "the queued finals")
                assert late.on("/transcript/final")[0].body["text"] == WORDS


def test_health_reads_the_running_agent(tmp_path: Path, broker: PrivateBroker) -> None:
    """All is well while it runs; degraded (3) when it does not."""
    state = tmp_path / "state"
    overrides = [part for one in settings(broker, looped()) for part in ("--set", one)]
    with AgentProcess(state, *settings(broker, looped())) as box:
        wait_until((state / "run/health.json").exists, 30)
        running = edge_agent("health", "--json", *overrides, EDGE_AGENT_STATE=str(state))
        checks = {c["name"]: c["status"] for c in json.loads(running.stdout)["checks"]}
        # This machine's own clock may not be synchronised; all else is well.
        assert {name for name, status in checks.items() if status != "ok"} <= {"clock"}
        assert running.returncode in {0, 3}
        assert set(checks) >= {
            "agent",
            "microphone",
            "model",
            "broker",
            "outbox",
            "disk",
        }
        box.terminate()
    stopped = edge_agent("health", *overrides, EDGE_AGENT_STATE=str(state))
    assert stopped.returncode == 3
    assert "not running" in stopped.stdout


def kill_loop(tmp_path: Path, broker: PrivateBroker, *, kills: int, seed: int) -> tuple[set[str], list[str]]:
    """Kill agent and broker at random; answers (committed ids, received ids)."""
    dice = random.Random(seed)
    state = tmp_path / "state"
    everything: dict[int, str] = {}
    with Subscriber(broker.port) as subscriber:
        box = AgentProcess(state, *settings(broker, looped()))
        for started in range(kills):
            with box:
                wait_until(lambda seen=started: box.log.count('"listening"') > seen, 30)
                time.sleep(dice.uniform(2.5, 8.0))
                box.kill()
            everything |= committed(state)
            if dice.random() < 0.5:
                broker.kill()
                time.sleep(dice.uniform(0, 0.5))
                broker.start()
        with box:  # a last run delivers what is left
            wait_until(
                lambda: (
                    set(everything.values())
                    <= {m.body["id"] for m in subscriber.on("/transcript/final") + subscriber.on("/gap")}
                ),
                60,
                "all that was committed",
            )
            box.terminate()
        received = [m.body["id"] for m in subscriber.on("/transcript/final") + subscriber.on("/gap")]
    assert sorted(everything) == list(range(1, len(everything) + 1)), "seq has holes"
    return set(everything.values()), received


def test_nothing_committed_is_lost_when_agent_and_broker_are_killed(
    tmp_path: Path, broker: PrivateBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 at random moments: every committed final arrives."""
    kept, received = kill_loop(tmp_path, broker, kills=5, seed=20261120)
    assert kept <= set(received)
    with capsys.disabled():
        print(f"\n  committed {len(kept)}, missing 0, duplicates {len(received) - len(set(received))}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_committed_is_lost_in_forty_kills(tmp_path: Path, broker: PrivateBroker) -> None:
    """The same for longer."""
    kept, received = kill_loop(tmp_path, broker, kills=40, seed=7)
    assert kept <= set(received)
