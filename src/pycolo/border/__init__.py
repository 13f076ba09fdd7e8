"""The exact border between two epochs on the input's side: which client frame is part of which guest's state (rule E1).

::

    primary's node      REPLY held ──────────► nothing is sent to the primary ─────────► LOADED passed
                                               all it was sent it has read    marker sent
    secondary's node    REQUEST held ─────────► nothing is sent to the secondary ─► LOADED seen, marker heard
                        all it was sent it has read

The primary's node mirrors every client frame that it sends to its guest, in the same order. At the border the primary
has read everything that was mirrored, and gets nothing until it runs again, so the copied state contains exactly what
was mirrored before the marker. The secondary's node keeps what arrives while nothing may be sent to its guest; the
marker divides it. `inputs` decides what becomes of it.
"""
