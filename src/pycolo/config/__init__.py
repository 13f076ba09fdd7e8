"""The configuration of one virtual machine's node: one TOML file, read once and checked as a whole.

`load` returns a `PairConfig` or raises `ConfigFileError`, which holds all errors of the file, one line each, with their
place: ``vm.toml: link.listen: expected HOST:PORT, found 'x'``. The attributes have the names of the keys. Nothing here
depends on the host (does the group exist, is the certificate there): a file can be checked on another machine.
"""

from pycolo.config.exemptions import BypassOptions, MaskOptions
from pycolo.config.reading import ConfigFileError, describe, load, parse
from pycolo.config.sections import (
    ArbiterOptions,
    CardOptions,
    CheckpointOptions,
    CompareOptions,
    ControlOptions,
    DisksOptions,
    GuestOptions,
    HeartbeatOptions,
    LinkOptions,
    LogOptions,
    MetricsOptions,
    NetworkOptions,
    PairConfig,
    QemuOptions,
)

__all__ = [
    "ArbiterOptions",
    "BypassOptions",
    "CardOptions",
    "CheckpointOptions",
    "CompareOptions",
    "ConfigFileError",
    "ControlOptions",
    "DisksOptions",
    "GuestOptions",
    "HeartbeatOptions",
    "LinkOptions",
    "LogOptions",
    "MaskOptions",
    "MetricsOptions",
    "NetworkOptions",
    "PairConfig",
    "QemuOptions",
    "describe",
    "load",
    "parse",
]
