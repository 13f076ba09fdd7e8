from pycolo.compare.admission import Admission
from pycolo.compare.datagram import DatagramComparison
from pycolo.compare.held import Held
from pycolo.compare.tcp import TcpComparison

class Ages:
    timeout_us: int
    def __init__(
        self, held: Held, tcp: TcpComparison, datagram: DatagramComparison, admission: Admission, timeout_us: int
    ) -> None: ...
