"""The nodes: `colo primary` and `colo secondary` as processes.

May know everything below it; only `proxy`, `vm` and `cli` know it.

    options         what a node is told at start
    clock           the clock of all frames
    datapath        the thread that moves frames: a pump of `path`, and what that leaves to Python
    primarypath     … with a comparator in it
    secondarypath   … with a rewriter in it
    handover        what a path that served leaves to the one that follows it
    announcer       tells the LAN where the guest's addresses are now
    nopath          stands for the path of a node without a guest
    linksides       listening for the other node, dialing it
    supervisor      one node's life: link, heartbeats, arbiter, states (asyncio, in the main thread)
    divergences     the last ones, for whoever asks why
    sidebyside      one of them in words, with the bytes of both sides
    planner         runs the plans of `failover.plans`
    control         the unix socket on which a node is asked
    servicemanager  what systemd is told

Two threads matter: the data path's owns its core and its ports; the main thread decides, and posts to it.
"""
