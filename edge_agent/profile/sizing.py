"""How many decodes may run at once on a machine. No I/O here.

Measured with whisper-base int8 on two cores: two workers of one thread each do 35.8 s of audio per second,
one worker of one thread 24.2, and a second thread in a worker makes greedy decoding slower (147 ms instead
of 120). So: one thread per worker, one worker per core.
"""

from __future__ import annotations

import math

from edge_agent.profile.schema import Profile
from edge_agent.types import Device

WORKER_RAM_BYTES = 107 << 20
"""What each further worker adds while it encodes 30 s of audio with whisper-base (measured: peaks of 294 MB
with one worker, 616 MB with four)."""


def fast_cores(device: Device) -> int:
    """Cores worth a worker: no second hyperthread, no slow cores beside fast ones; at least 1."""
    # Where fast cores stand beside slow ones only the fast ones have hyperthreads.
    hyperthreads = device.cores - device.physical_cores if device.physical_cores else 0
    slow = sum(kind.count for kind in device.core_kinds if not kind.fast)
    return max(1, device.cores - slow - hyperthreads)


def workers(profile: Profile, device: Device) -> int:
    """Workers to open the engine with.

    A quota of 1.5 CPUs gives one worker, and the half is left to capture. On a single core there is one
    worker; capture runs beside it because it sleeps nearly all the time.
    """
    wanted = profile.engine.workers
    if wanted != "auto":
        return wanted
    # onnxruntime's decodes share one pool of threads.
    shared = profile.engine.kind in ("onnxruntime", "ctc")
    threads = 1 if shared else profile.engine.threads_per_worker
    by_cpu = math.floor(min(device.usable_cpus, fast_cores(device)) / threads)
    by_ram = 1 + (device.usable_ram_bytes - (profile.limits.ram_max_mb << 20)) // WORKER_RAM_BYTES
    if not device.usable_ram_bytes:
        by_ram = 1
    return max(1, min(by_cpu, by_ram, profile.engine.max_workers))
