from pycolo.compare.held import Held
from pycolo.compare.stream import ByteStreams

class TcpComparison(ByteStreams):
    commits_input: bool
    def __init__(self, held: Held, commits_input: bool, needs_handshake: bool) -> None: ...
