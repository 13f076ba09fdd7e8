"""The loop that moves frames: what it reads and writes, its stages, and the cores that it asks.

The compiled files are part of `pycolo.core` and are read in this order:

    batch                   a buffer of frames
    streams                 where frames are read and written: sockets, devices, other ports
    link                    where the messages between the nodes are read, and put to be sent
    pump                    the loop: epoll, receive, core, send, as long as nothing but frames comes
    comparing, rewriting    the stages, which all shells share, and `colo proxy`'s loop with each
    nodes                   what both nodes' loops have in common
    primary, secondary      the nodes' loops

`cores` makes the cores that all shells use, and says what they count; `faces` says what is asked of ports and the link.
Nothing here opens, accepts, closes or logs anything.
"""
