"""Acts on the findings of a probe: refusals are an error, warnings are logged."""

from collections.abc import Iterable

import structlog

from pycolo.errors import PeerError
from pycolo.qmp.judge import Finding

log = structlog.get_logger("colo")


def check_findings(findings: Iterable[Finding], name: str) -> None:
    """Log the warnings. Raises `PeerError` with all refusals in one line."""
    refusals = []
    for finding in findings:
        if finding.severity == "refuse":
            refusals.append(finding.text)
        else:
            log.warning(f"{name}: {finding.text}", code=finding.code)
    if refusals:
        raise PeerError(f"{name} cannot be protected: {'; '.join(refusals)}")
