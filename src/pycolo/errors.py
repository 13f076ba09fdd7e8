"""The error tree.

::

    PycoloError
    ├── WireError        bytes that are not a frame, batch or capture: reason, offset
    ├── PeerError        the other node, QEMU or a client of ours broke the protocol
    │   ├── FramingError     a stream's length word is impossible: stream, offset
    │   ├── LinkError        the other node's hello or message is refused
    │   ├── QmpError         QEMU answered a command with an error: vm, command, error_class, description
    │   └── QmpTimeout       QEMU did not answer in time: vm, command, timeout_s
    ├── StateError       something was called at the wrong time: state, required
    ├── ConnectError     a socket, device or file could not be opened; wraps the cause
    ├── CheckpointError  phase
    ├── FailoverError    role, step
    └── ConfigError      path in the configuration, what was expected, what was found

Operating errors are values or these exceptions; bugs are asserts. Each message is one line that says what, where and
what to do; the user sees it unchanged. A malformed packet from a guest is none of these but a counted refusal
(`pycolo.wire.packet`): a guest must not be able to raise an exception in the packet path.
"""

from enum import Enum
from typing import ClassVar, Final

EXIT_INTERRUPTED: Final = 130
"""Exit code of a command that a signal has ended."""


class PycoloError(Exception):
    """Base of all exceptions that pycolo raises on purpose."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that ends with this error."""


class WireReason(Enum):
    """Why bytes were refused."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"


class WireError(PycoloError):
    """Bytes that are not a frame, batch or capture (`pycolo.frames`; the packet path counts instead)."""

    def __init__(self, reason: WireReason, offset: int, what: str) -> None:
        super().__init__(f"{what}: {reason.value} at byte {offset}")
        self.reason = reason
        self.offset = offset


class PeerError(PycoloError):
    """The peer broke the protocol; its stream is closed, the others go on."""


class FramingError(PeerError):
    """A length word that is impossible for a frame. The rest of the stream cannot be read."""

    def __init__(self, stream: str, offset: int, found: int, allowed_max: int) -> None:
        super().__init__(
            f"{stream}: length word {found} at byte {offset} of what was read last is above {allowed_max}; stream "
            f"closed (is vnet_hdr_support the same on both sides?)"
        )
        self.stream = stream
        self.offset = offset
        self.found = found


class LinkError(PeerError):
    """The other node's hello or message is refused."""


class QmpError(PeerError):
    """QEMU answered a command with an error. `error_class` and `description` are QEMU's own words."""

    def __init__(self, vm: str, command: str, error_class: str, description: str, hint: str = "") -> None:
        said = " ".join(description.split())
        super().__init__(f"{vm}: {command}: QEMU says: {said}" + (f" ({hint})" if hint else ""))
        self.vm = vm
        self.command = command
        self.error_class = error_class
        self.description = description


class QmpTimeout(PeerError):  # noqa: N818, a time-out is the whole of what is known
    """QEMU did not answer `command` within `timeout_s`. It is not known whether QEMU has carried it out or will."""

    def __init__(self, vm: str, command: str, timeout_s: float, what: str) -> None:
        super().__init__(f"{vm}: {command}: {what} within {timeout_s:g} s")
        self.vm = vm
        self.command = command
        self.timeout_s = timeout_s


class StateError(PycoloError):
    """A call at the wrong time."""

    def __init__(self, what: str, state: str, required: str) -> None:
        super().__init__(f"{what}: state is {state}, must be {required}")
        self.state = state
        self.required = required


class ConnectError(PycoloError):
    """A socket, device or file could not be opened; always raised `from` its cause."""


class CheckpointError(PycoloError):
    """A checkpoint failed in `phase`."""

    def __init__(self, phase: str, what: str) -> None:
        super().__init__(f"checkpoint, {phase}: {what}")
        self.phase = phase


class FailoverError(PycoloError):
    """A failover step failed."""

    def __init__(self, role: str, step: str, what: str) -> None:
        super().__init__(f"failover of the {role}, step {step}: {what}")
        self.role = role
        self.step = step


class ConfigError(PycoloError):
    """An option or a line of a configuration file is wrong; `found` None: it is missing."""

    def __init__(self, path: str, expected: str, found: object) -> None:
        if found is None:
            super().__init__(f"{path} is missing: it names {expected}")
        else:
            super().__init__(f"{path}: expected {expected}, found {found!r}")
        self.path = path
        self.expected = expected
        self.found = found
