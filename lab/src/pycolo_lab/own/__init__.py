"""`colo demo --serve … --client …`: the person's own server in both guests, the person's own client against it.

::

    commands     how the two commands are written, and what stands in them
    options      what such a run is asked to do
    room         what a guest has of its own: file system, processes, hostname; runs inside it
    listening    who listens on a port of a network namespace
    socktable    the TCP connections of a network namespace, with what has moved on each
    farewells    who ended a connection, and how: seen on the wire
    connections  the connections to the server from the kill on; pure
    runner       starts the client again and again, in the client's namespace
    facts        what such a run saw
    summary      facts -> numbers
    verdict      numbers -> verdict
    scenario     the run itself
    report       the page
"""
