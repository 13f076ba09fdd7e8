from pycolo.compare.held import Held
from pycolo.compare.onesided import OneSide

class TcpComparison(OneSide):
    def __init__(self, held: Held, commits_input: bool, needs_handshake: bool) -> None: ...
