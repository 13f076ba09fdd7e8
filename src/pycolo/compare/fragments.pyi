from pycolo.compare.held import Held

class Reassembly:
    other: Reassembly
    @property
    def used(self) -> int: ...
    def __init__(self, held: Held, is_primary: bool, timeout_us: int) -> None: ...
