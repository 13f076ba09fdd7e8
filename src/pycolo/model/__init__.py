"""The rules of docs/rules.md as a program: plain Python that judges what an implementation does.

May know nothing of pycolo but itself: it is written from the rules, so that it shares no mistake with what it judges.
It is a referee and no second implementation: it hears the facts, is shown what left, was reported or translated, and
raises `BrokenRuleError` where a rule forbids it. Where an implementation may choose, every choice passes.

    numbers      sequence numbers without their wrap
    packet       bytes -> segments, datagrams, fragments
    voice        what one guest has said of a connection
    incarnation  one life of a connection: both voices, what waits, what the client was told
    facts        what both guests and the client have said of one connection
    tcp          C1-C3, C5, C8, C9, C11 for one connection
    datagrams    C4, C8
    fragments    C4, C9
    comparator   the comparator over frames: the class that a test drives
    tracked      what is known of one connection that is rewritten
    edits        what a rewriter may change in a frame
    rewriter     R1-R4: the class that a test drives
    verdicts     `BrokenRuleError`
"""
