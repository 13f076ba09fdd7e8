from typing import Final

from pycolo.wire.buffers import Buffer

INCOMPLETE: Final = 0
COMPLETE: Final = 1
IMPOSSIBLE: Final = 2

class Span:
    start: int
    end: int
    vnet_len: int
    word: int

def frame_at(buf: Buffer, pos: int, end: int, has_vnet: bool, span: Span) -> int: ...
def frame_boundary(buf: Buffer, pos: int, limit: int, has_vnet: bool) -> int: ...
