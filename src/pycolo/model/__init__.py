"""The rules of docs/rules.md as a program: plain Python that checks an implementation.

It imports nothing of pycolo but itself: it is written from the rules, so that it shares no mistake with the code that
it checks. It is a referee, not a second implementation: it receives the facts and the implementation's output (frames,
reports, translations), and raises `BrokenRuleError` where a rule forbids that output. Where an implementation may
choose, every choice passes.

    numbers      sequence numbers without their wrap
    packet       bytes -> segments, datagrams, fragments
    voice        the packets of one guest in a connection
    incarnation  one life of a connection: both voices, waiting packets, and what the client was told
    facts        the packets of both guests and the client in one connection
    tcp          C1-C3, C5, C8, C9, C11 for one connection
    datagrams    C4, C8
    fragments    C4, C9
    comparator   the comparator over frames: the class that a test drives
    tracked      the state of one connection that is rewritten
    edits        what a rewriter may change in a frame
    rewriter     R1-R4: the class that a test drives
    verdicts     `BrokenRuleError`
"""
