"""What to do about what a probe has found: the first refusal stops, warnings are said."""

from collections.abc import Iterable

import structlog

from pycolo.errors import PeerError
from pycolo.qmp.judge import Finding

log = structlog.get_logger("colo")


def check_findings(findings: Iterable[Finding], name: str) -> None:
    """Raises `PeerError` with every refusal in one line; logs the warnings."""
    refusals = []
    for finding in findings:
        if finding.severity == "refuse":
            refusals.append(finding.text)
        else:
            log.warning(f"{name}: {finding.text}", code=finding.code)
    if refusals:
        raise PeerError(f"{name} cannot be protected: {'; '.join(refusals)}")
