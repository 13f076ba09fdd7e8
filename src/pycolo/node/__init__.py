"""The nodes: `colo primary` and `colo secondary` as processes.

May know everything below it; only `cli` and `lab` know it.

    options         what a node is told at start
    batch           one buffer of frames on its way from a port to a core or from a core to a port
    datapath        the thread that moves frames: epoll, one core, no locks
    primarypath     … with a comparator in it
    secondarypath   … with a rewriter in it
    supervisor      one node's life: link, heartbeats, arbiter, states (asyncio, in the main thread)
    control         the unix socket on which `colo status` and `colo failover` ask

Two threads matter: the data path's owns its core and its ports; the main thread decides, and posts to it.
"""
