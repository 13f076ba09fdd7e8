"""The secondary's input in the order of the primary's answers, so that similar guests stay similar (ADR 0070).

::

    clients ──► PrimaryOrder ──► the primary's guest           SecondaryOrder ──► the secondary's guest
                     └── mirrored when given, or when answered ────────┘

Two guests that do the same work in another order give different answers: a lock or a counter goes to another client.
The network may delay frames of different connections as it likes, so the nodes choose an order: requests are given to
the primary's guest in small rounds, and to the secondary's in the order in which the primary's took them.

`lanes`, `mirror`, `primary` and `secondary` are the compiled cores; `tuner` chooses how a port is ordered.
"""
