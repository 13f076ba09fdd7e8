"""`colo demo --baseline`: the cost of protection for bulk transfers, measured before any kill of the same run.

::

    protocol     the protocol of bulk clients and bulk server, and the sampling of content
    server       the bulk server; client: a download, an upload, and one with small questions
    bridge       (a) the client and one guest on a bare bridge
    facts        the measurements
    runner       (a), then (b) two nodes that compare nothing, then (c) the protected pair
    summary      facts -> numbers
    wording      numbers -> a table
"""
