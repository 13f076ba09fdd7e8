"""A rewriter that has taken over, with rows for a file."""

from pycolo.core import Rewriter
from pycolo.node.rowsfile import RowsFile
from support.segments import Flow, Tcp, arp, batch, frame

FLOWS = [Flow(client_port=port) for port in range(1, 4)] + [Flow(version=6)]


def give(rewriter, segment):
    buf = batch([segment if isinstance(segment, bytes) else frame(segment)])
    take = rewriter.guest_frames if isinstance(segment, bytes) or not segment.from_client else rewriter.client_frames
    take(buf, 0, len(buf), 0, buf, 0)


def serving():
    rewriter = Rewriter(1, connections_max=64, unacked_bytes_max=1 << 20)
    give(rewriter, arp())
    for flow in FLOWS:
        give(rewriter, Tcp(0, "S", flow=flow, from_client=True))
        give(rewriter, Tcp(50_000, "SA", ack=1, flow=flow))
        give(rewriter, Tcp(1, "A", ack=1_001, flow=flow, from_client=True))
    rewriter.takeover()
    return rewriter


def churn(file: RowsFile) -> None:
    """Change the rows of the file until the process is killed; says "ready" when the file is there."""
    rewriter = serving()
    file.write(rewriter)
    print("ready", flush=True)
    number = 50_001
    while True:
        for flow in FLOWS:
            give(rewriter, Tcp(number, "FA", ack=1, flow=flow))
        number += 1
