"""A real client's TCP, and a segment that only the secondary guest has lost: it is sent again at once.

Three Linux stacks, by `benchmarks/repeated_ack.py`. What made the client send again, its kernel's counters say.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.namespaces, pytest.mark.tun, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "repeated_ack.py"
ROUNDS = 4


def played(*options: str) -> list[dict[str, Any]]:
    """The figures of each connection; the answer to each was right."""
    command = [sys.executable, str(SCRIPT), "--rounds", f"{ROUNDS}", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == ROUNDS
    return found


@pytest.mark.parametrize("segments", [5, 8])
def test_a_client_sends_again_what_it_hears_the_secondary_has_lost(segments: int) -> None:
    """Its time-out is 20 s and it sends no probe: nothing but a fast retransmission has sent the segment again."""
    for each in played("--way", "blocks", "--patient", "--segments", f"{segments}"):
        assert each["repetitions"] >= 1
        assert each["counters"]["TcpExtTCPFastRetrans"] >= 1, each
        assert each["counters"]["TcpExtTCPSackRecovery"] >= 1, each
        assert each["counters"]["TcpExtTCPTimeouts"] == 0, each


@pytest.mark.parametrize("way", ["no-blocks", "none"])
def test_a_client_that_does_not_hear_it_waits_for_its_time_out(way: str) -> None:
    """The control: what is asserted above is the node's doing."""
    for each in played("--way", way):
        assert each["counters"]["TcpExtTCPFastRetrans"] == 0, each
        assert each["counters"]["TcpExtTCPTimeouts"] >= 1, each
