"""`edge-agent devices`: the microphones of this machine, and a level meter."""

from __future__ import annotations

import argparse
import sys

import msgspec
import numpy as np

from edge_agent.audio.alsa import AlsaSource
from edge_agent.audio.devices import CaptureDevice, capture_devices
from edge_agent.audio.level import Level, Meter
from edge_agent.audio.resample import Resampler
from edge_agent.audio.source import Block, Overrun
from edge_agent.clock import SystemClock
from edge_agent.errors import MicrophoneLost
from edge_agent.types import FRAME_SAMPLES
from edge_agent.verbs.common import Subparsers, add_json, print_json, print_json_line, say, verb

_BAR_DB = 60
_BAR_WIDTH = 40
_SHOW_FRAMES = 3  # the meter moves ten times a second


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(
        subparsers,
        "devices",
        "list microphones; --meter shows how loud one is",
        "List the capture devices under names that survive a reboot, as audio.source takes them.",
    )
    add_json(parser)
    parser.add_argument("--meter", action="store_true", help="show the level of a device until interrupted")
    parser.add_argument(
        "--device",
        metavar="NAME",
        default="",
        help="for --meter: PCM name or card id (default: the first that is ready)",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, metavar="S", help="for --meter: stop after S seconds"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List, or measure.

    Raises:
        MicrophoneLost: there is no device (exit 69).
    """
    clock = SystemClock()
    if args.meter and args.device:
        return _meter(AlsaSource(args.device.removeprefix("alsa:"), channels=1, clock=clock), args)
    devices = capture_devices(clock)
    if not devices:
        raise MicrophoneLost(
            "no microphone was found",
            remedy='plug one in; "arecord -l" must list it, and this user must be in the group audio',
        )
    if args.meter:
        ready = next((device for device in devices if device.state == "ready"), devices[0])
        return _meter(AlsaSource(ready.source.removeprefix("alsa:"), channels=1, clock=clock), args)
    if args.json:
        print_json([msgspec.to_builtins(device) for device in devices])
    else:
        _print(devices)
    return 0


def _print(devices: list[CaptureDevice]) -> None:
    width = max(len(device.source) for device in devices)
    for device in devices:
        facts = f"{device.rate_hz} Hz, {device.channels} channel(s)" if device.rate_hz else device.problem
        sys.stdout.write(f"{device.source:<{width}}  {device.state:<8}  {facts}  {device.description}\n")


def _meter(source: AlsaSource, args: argparse.Namespace) -> int:
    source.open()
    say(f"{source.name}: {source.rate_hz} Hz, {source.channels} channel(s); Ctrl-C ends")
    meter, resampler = Meter(), Resampler(source.rate_hz)
    rest = np.zeros(0, np.float32)
    frames = 0
    try:
        while not args.seconds or frames * FRAME_SAMPLES < args.seconds * 16_000:
            item = source.read(0.5)
            if isinstance(item, Overrun) or not isinstance(item, Block):
                continue
            sound = np.concatenate((rest, resampler.process(item.pcm)[:, 0]))
            whole = len(sound) - len(sound) % FRAME_SAMPLES
            for frame in sound[:whole].reshape(-1, FRAME_SAMPLES):
                meter.update(frame)
                frames += 1
                if frames % _SHOW_FRAMES == 0:
                    _show(meter.level(), as_json=args.json)
            rest = sound[whole:]
    except KeyboardInterrupt:
        pass
    finally:
        source.close()
    if not args.json:
        sys.stdout.write("\n")
    return 0


def _show(level: Level, *, as_json: bool) -> None:
    if as_json:
        print_json_line(msgspec.to_builtins(level))
        return
    filled = max(0, min(_BAR_WIDTH, round((level.rms_dbfs + _BAR_DB) / _BAR_DB * _BAR_WIDTH)))
    bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
    note = f"  digital silence for {level.zero_run_s:.0f} s: muted?" if level.zero_run_s > 1 else ""
    sys.stdout.write(f"\r{bar} rms {level.rms_dbfs:6.1f}  peak {level.peak_dbfs:6.1f} dBFS{note}\033[K")
    sys.stdout.flush()
