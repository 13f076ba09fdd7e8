from pycolo.wire.buffers import Buffer

class Packet:
    start: int
    frame_pos: int
    ip_pos: int
    l4_pos: int
    payload_pos: int
    ip_end: int
    end: int
    vnet_len: int
    timestamp_pos: int
    sack_pos: int
    sack_len: int
    payload_len: int
    kind: int
    refusal: int
    vnet_flags: int
    gso_type: int
    gso_size: int
    ip_version: int
    ip_proto: int
    flags: int
    window: int
    mss: int
    window_scale: int
    source_port: int
    destination_port: int
    fragment_offset: int
    vlan: int
    fragment_id: int
    source0: int
    source1: int
    source2: int
    source3: int
    destination0: int
    destination1: int
    destination2: int
    destination3: int
    seq: int
    ack: int
    more_fragments: bool
    sack_permitted: bool

def parse_frame(buf: Buffer, start: int, end: int, vnet_len: int, packet: Packet) -> int: ...
