"""The error tree. Each error says what happened (`cause`) and what to do next (`remedy`), in one line.

EdgeAgentError                exit
├─ UsageError                    2   the command line or a named file is not usable
│  └─ AudioFileError             2   a recording that cannot be read
├─ ConfigError                  78   the configuration is wrong; systemd must not restart
│  └─ NoProfileFits             78   no profile matches this machine
├─ CaptureError                 69   the microphone
│  ├─ MicrophoneLost            69     gone: unplugged, or never there
│  └─ MicrophoneBusy            69     held by another program
├─ EngineError                   1   recognition
│  ├─ EngineLoadFailed           1     the engine or its library cannot be loaded
│  ├─ OutOfMemory                1     the GPU's memory does not hold the decode
│  └─ BadOutput                  1     the engine answered nonsense
├─ ModelError                    1   model files
│  ├─ ModelMissing               1     not in the store
│  ├─ DigestMismatch             1     bytes are not what the catalogue promises
│  ├─ FetchFailed               69     no source could deliver
│  └─ DiskFull                   1     not enough room
├─ FleetError                    1   what the fleet sends
│  ├─ Untrusted                  1     signature, version, expiry or digest does not hold
│  └─ NoMirror                  69     no mirror could be read
├─ OutboxError                   1   the durable queue
└─ BrokerError                  69   MQTT
   ├─ BrokerUnreachable         69     no connection
   └─ BrokerRefused             69     wrong login, certificate or permission

Foreign exceptions are translated at the one module that meets them, so callers catch one family.
"""

from __future__ import annotations


class EdgeAgentError(Exception):
    """Base of all errors a user may meet.

    Args:
        cause: what happened, naming the file, key or device; no trailing period.
        remedy: the next step for the reader; no trailing period.
    """

    exit_code = 1

    def __init__(self, cause: str, *, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.cause = cause
        self.remedy = remedy


class UsageError(EdgeAgentError):
    """The command line, or a file it names, cannot be used."""

    exit_code = 2


class AudioFileError(UsageError):
    """A recording cannot be read or holds no sound."""


class ConfigError(EdgeAgentError):
    """A configuration or profile file is wrong."""

    exit_code = 78


class NoProfileFits(ConfigError):
    """No profile matches this machine, or the named one does not exist."""


class CaptureError(EdgeAgentError):
    """The microphone cannot be used."""

    exit_code = 69


class MicrophoneLost(CaptureError):
    """The capture device is not there, or went away."""


class MicrophoneBusy(CaptureError):
    """Another program holds the capture device."""


class EngineError(EdgeAgentError):
    """Recognition failed."""


class EngineLoadFailed(EngineError):
    """The engine, its native library or its model could not be loaded."""


class OutOfMemory(EngineError):
    """The memory of the GPU ran out during a decode."""


class BadOutput(EngineError):
    """The engine answered something that is not a transcript."""


class ModelError(EdgeAgentError):
    """A model cannot be used."""


class ModelMissing(ModelError):
    """The model is not in the store, or its name is unknown."""


class DigestMismatch(ModelError):
    """The bytes are not those the catalogue promises."""


class FetchFailed(ModelError):
    """No source could deliver the model."""

    exit_code = 69


class DiskFull(ModelError):
    """Not enough room for the model."""


class FleetError(EdgeAgentError):
    """What the fleet sends cannot be used."""


class Untrusted(FleetError):
    """A signature, a version, an expiry, a size or a digest does not hold: nothing of it is used."""


class NoMirror(FleetError):
    """None of the mirrors could be read."""

    exit_code = 69


class OutboxError(EdgeAgentError):
    """The durable queue cannot be used."""


class BrokerError(EdgeAgentError):
    """The MQTT broker cannot be used."""

    exit_code = 69


class BrokerUnreachable(BrokerError):
    """No connection to the broker."""


class BrokerRefused(BrokerError):
    """The broker refused the login, the certificate or the topic."""
