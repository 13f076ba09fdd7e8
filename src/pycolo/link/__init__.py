"""The protocol between the two nodes: bytes and verdicts, no sockets.

The primary node listens, the secondary node connects twice::

    secondary                                   primary
       │ ── control: HELLO ─────────────────────► │
       │ ◄───────────────── WELCOME or REFUSED ── │
       │ ◄══ HEARTBEAT, TAKEOVER_NOTICE, GOODBYE ══►
       │ ── data: HELLO ────────────────────────► │
       │ ◄───────────────── WELCOME or REFUSED ── │
       │ ◄──────── CLIENT_FRAMES, EPOCH_MARKER ── │
       │ ── GUEST_FRAMES, EPOCH_MARKER ─────────► │

Two connections, so that a heartbeat never waits behind eight megabytes of frames.

* `codec`: the messages of both connections; header, limits, decoder.
* `hello`: which nodes may connect, as a pure function of the two hellos.
"""
