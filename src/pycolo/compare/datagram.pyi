from pycolo.compare.held import Held

class DatagramComparison:
    def __init__(self, held: Held) -> None: ...
