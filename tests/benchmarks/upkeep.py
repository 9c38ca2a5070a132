"""What one box costs from second to second: python -m tests.benchmarks.upkeep [--seconds S] [--write]

CPU share, wake-ups and memory: nobody speaks, one microphone on which one speaks all the time, four of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.benchmarks.footprint import cpu_s, room, rss_mb, write
from tests.benchmarks.results import machine, table, write_section
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess

SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"


def wake_ups(pid: int) -> int:
    """Times a thread slept and was woken so far, all threads together."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def talk(path: Path, channels: int) -> Path:
    """The sample and a second of rest; each channel begins at another moment, as four speakers do."""
    said = np.concatenate((read_audio(SAMPLE), np.zeros(16_000, np.float32)))
    shifted = [np.roll(said, channel * len(said) // channels) for channel in range(channels)]
    sound = np.clip(np.rint(np.stack(shifted, axis=1) * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.tobytes())
    return path


def measure(work: Path, name: str, sound: Path, channels: int, seconds: float) -> list[str]:
    """One row of the table."""
    with PrivateBroker() as broker, Subscriber(broker.port) as subscriber:
        settings = [
            f'mqtt.url="{broker.url}"',
            f'audio.source="file:{sound}?loop=1"',
            f"audio.channels={channels}",
            f"audio.use_channels={list(range(channels))}",
        ]
        with AgentProcess(work / name, *settings) as box:
            pid = box.process.pid
            wait_until(lambda: '"listening"' in box.log, 60)
            time.sleep(8)
            began, used, woken = time.monotonic(), cpu_s(pid), wake_ups(pid)
            heard = len(subscriber.on("/transcript/final"))
            time.sleep(seconds)
            passed = time.monotonic() - began
            cpu, woken_s = (cpu_s(pid) - used) / passed, (wake_ups(pid) - woken) / passed
            finals = len(subscriber.on("/transcript/final")) - heard
            memory = rss_mb(pid)
            box.terminate()
    return [name, f"{cpu * 100:.1f} %", f"{woken_s:.0f}", f"{memory:.0f} MB", str(finals)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--write", action="store_true", help="write the figures to RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows = [
            measure(work, "nobody speaks", write(work / "quiet.wav", [room(60)]), 1, arguments.seconds),
            measure(work, "one microphone", talk(work / "one.wav", 1), 1, arguments.seconds),
            measure(work, "four microphones", talk(work / "four.wav", 4), 4, arguments.seconds),
        ]
    head = [
        "",
        "CPU, of one core",
        "wake-ups a second",
        "memory (RSS)",
        f"finals in {arguments.seconds:.0f} s",
    ]
    body = (
        f"`python -m tests.benchmarks.upkeep --write`, {machine()}. Partials are on; speech with a second of "
        f"rest after every two and a half.\n\n{table(head, rows)}"
    )
    print(body)
    if arguments.write:
        write_section("upkeep", "What a box costs from second to second", body)


if __name__ == "__main__":
    main()
