"""`colo demo --serve … --client …`: the user's own server in both guests, and the user's own client.

::

    commands     the syntax of the two commands, and their placeholders
    options      the options of such a run
    room         a guest's own file system, processes and hostname; runs inside the guest
    listening    the listening sockets of a network namespace
    socktable    the TCP connections of a network namespace, with the bytes moved on each
    farewells    how each connection ended, seen on the wire
    connections  the connections to the server from the kill on; pure
    runner       runs the client repeatedly, in the client's namespace
    facts        observations of such a run
    summary      facts -> numbers
    verdict      numbers -> verdict
    scenario     the run itself
    report       the page
"""
