"""The nodes: `colo primary` and `colo secondary` as processes, and the parts that `vm` uses as well.

Only `vm` and `cli` import it.

    options         what a node is told at start
    datapath        the thread that moves frames: a pump of `path`, and what that leaves to Python
    primarypath     … with a comparator in it
    secondarypath   … with a rewriter in it
    guestwire       what a path requires of the guest's own tap
    datalinks       the data connections of one link, one for each card
    handover        what a path that served leaves to the one that follows it
    announcer       tells the LAN where the guest's addresses are now
    nopath          stands for the path of a node without a guest
    roles           `colo primary` and `colo secondary`, put together of these parts:
    node            one node's life (asyncio, in the main thread)
    decider         the pair's value: facts in, commands out, deadlines
    commands        carries the commands out
    guest           the interface of a guest and its data path
    plainguest      … without a QEMU of the node's own
    links           the link to the other node, and what is heard over it
    peerrpc         questions and words over a link
    ownside         where the links of such a node come from
    linksides       listening for the other node, dialing it
    permission      the arbiter
    leasing         … and its leave to protect
    gate            what the data path asks before each write
    records         what a restarted node must know
    journal         what the user is told of the pair's transitions
    operator        what the user may ask
    loopcall        from any thread into asyncio's
    inthread        what a thread opens has one owner
    opening         how a node's ports are opened
    divergences     the last ones, for `colo explain`
    sidebyside      one of them in words, with the bytes of both sides
    planner         runs the plans of `failover.plans`
    control         the unix socket on which a node is asked
    servicemanager  what systemd is told

Two threads matter: the data path's owns its core and its ports; the main thread decides, and posts to it.
"""
