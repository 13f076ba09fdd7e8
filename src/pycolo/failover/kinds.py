"""What `arbiter.kind` may be: every arbiter that a node of a virtual machine has."""

from typing import Final

from pycolo.failover.arbiter import FirstToNoticeArbiter, ManualArbiter
from pycolo.failover.fencing import FencingArbiter
from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.pacemaker import PacemakerArbiter

ARBITER_KINDS: Final = (
    ManualArbiter.name,
    FencingArbiter.name,
    LeaseArbiter.name,
    PacemakerArbiter.name,
    FirstToNoticeArbiter.name,
)
