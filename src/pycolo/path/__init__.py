"""The loop that moves frames: its inputs and outputs, its stages, and the cores that they call.

The compiled files are part of `pycolo.core` and are read in this order:

    batch                   a buffer of frames
    streams                 the sources and destinations of frames: sockets, devices, other ports
    link                    received messages of the other node, and messages to send
    pump                    the loop: epoll, receive, core, send, as long as only frames arrive
    comparing, rewriting    the stages, shared by all shells, and `colo proxy`'s loop with each
    nodes                   what both nodes' loops have in common
    primary, secondary      the nodes' loops

`cores` makes the cores for all shells and lists their counters; `faces` has the interfaces of ports and the link;
`clock` is the clock of all frames.
Nothing here opens, accepts, closes or logs.
"""
