"""`colo demo --baseline`: what protection costs bulk transfers, measured three times in the same run, before any kill.

::

    protocol     what the bulk clients and the guests' bulk server say, and how little of the content they look at
    server       the bulk server; client: a download, an upload, and one that asks small questions meanwhile
    bridge       (a) the client and one guest on a bare bridge
    facts        what was measured
    runner       (a), then (b) two nodes that compare nothing, then (c) the protected pair
    summary      facts -> numbers
    wording      numbers -> a table
"""
