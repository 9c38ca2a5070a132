"""What the running service costs: python -m tests.benchmarks.footprint [--utterances N] [--write]

Cold start to `online`, memory when idle and after N utterances, CPU share when nobody speaks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.types import SAMPLE_RATE_HZ
from tests.benchmarks.results import machine, write_section
from tests.broker import Subscriber, wait_until
from tests.corpus import clips
from tests.e2e.agent_process import AgentProcess

IDLE_S = 30.0
SETS = ("en_read_kathleen", "en_read_ljspeech", "tel8k_en_asterisk", "en_noisy")
PAUSE_S = 1.5


def room(seconds: float) -> NDArray[np.float32]:
    """A quiet room, float32[samples]: noise around -60 dBFS; digital silence would be skipped."""
    noise = np.random.default_rng(3).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    return (noise * 0.001).astype(np.float32)


def write(path: Path, sounds: Sequence[NDArray[np.float32]]) -> Path:
    """16 bit WAV: read without a decoder, as a microphone is."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        for sound in sounds:
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def talk(path: Path, utterances: int) -> Path:
    """Recordings of several speakers, loud and noisy, long and short, each once, with a pause after each."""
    found = [clip for clip in clips(language="en") if clip.set in SETS]
    order = np.random.default_rng(1).permutation(len(found))[:utterances]
    pause = room(PAUSE_S)
    return write(path, [sound for index in order for sound in (read_audio(found[index].path), pause)])


def rss_mb(pid: int) -> float:
    """Resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settings(broker: PrivateBroker, source: str) -> list[str]:
    return [f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"']


def cold_start_s(work: Path, broker: PrivateBroker, source: str, number: int) -> float:
    """Seconds from starting the process to `online` at a subscriber."""
    with Subscriber(broker.port, client_id=f"start-{number}") as subscriber:
        time.sleep(0.3)
        before = len(subscriber.on("/status"))

        def online() -> list[float]:
            return [m.at for m in subscriber.on("/status")[before:] if m.body["state"] == "online"]

        began = time.monotonic()
        with AgentProcess(work / f"start-{number}", *settings(broker, source)) as box:
            wait_until(online, 60, "online")
            box.terminate()
        return online()[0] - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the figures to RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PrivateBroker() as broker:
        work = Path(folder)
        quiet = f"file:{write(work / 'quiet.wav', [room(60)])}?loop=1"
        starts = [cold_start_s(work, broker, quiet, number) for number in range(arguments.runs)]
        with Subscriber(broker.port) as subscriber:
            with AgentProcess(work / "idle", *settings(broker, quiet)) as box:
                wait_until(lambda: "listening" in box.log, 60)
                time.sleep(5)
                began, used = time.monotonic(), cpu_s(box.process.pid)
                time.sleep(IDLE_S)
                idle_cpu = (cpu_s(box.process.pid) - used) / (time.monotonic() - began)
                idle_mb = rss_mb(box.process.pid)
                box.terminate()
            spoken = f"file:{talk(work / 'talk.wav', arguments.utterances)}?loop=1"
            with AgentProcess(work / "busy", *settings(broker, spoken)) as box:
                wait_until(
                    lambda: len(subscriber.on("/transcript/final")) >= arguments.utterances,
                    10 * arguments.utterances,
                )
                busy_mb = rss_mb(box.process.pid)
                box.terminate()
    span = f"{min(starts):.2f} to {max(starts):.2f}"
    body = f"""
| what | figure |
|---|---|
| start to `online` at a subscriber, median of {len(starts)} | {statistics.median(starts):.2f} s ({span}) |
| memory (RSS), nobody speaks | {idle_mb:.0f} MB |
| memory (RSS) after {arguments.utterances} utterances | {busy_mb:.0f} MB |
| CPU when nobody speaks, {IDLE_S:.0f} s | {idle_cpu * 100:.1f} % of one core |
"""
    print(body)
    if arguments.write:
        command = f"`python -m tests.benchmarks.footprint --write`, {machine()}"
        write_section("footprint", "What the service costs", f"{body}\n{command}")


if __name__ == "__main__":
    main()
