"""The laboratory: two replicas, a LAN, clients and faults on real TCP stacks, in network namespaces.

A separate distribution, which adds `colo demo` and `colo lab` to the product's command line.

It may use the command line and the control socket of the nodes, as any user does, and the few modules of the product
that docs/architecture.md lists. The run never imports a core or a node, so it shows what the product does; only
`twist`, which runs at a guest's network card inside a node's process, uses the wire layer. The product does not import
the laboratory.

    namespaces, topology    private namespaces; client, bridge, two hosts, two guests with one address
    processes               which process runs in which namespace, and dies with which host
    guest_server            the deterministic server in both guests
    clients, sessions       the load: one download, one upload, many small sessions; pauses seen by each
    scoreboard              progress in shared memory, written by the clients, read by the run
    observe, faults         counters of kernel and nodes; cut, kill, stop
    twist, twisted          random sequence and timestamp offsets at guest B's network card; host B's node with them
    options, errors         the options of a run; why it failed to start
    interruption, refusals  signals, recorded and polled; why a machine refuses namespaces
    stage, scenario         the run: facts and nothing but facts (`facts`)
    baseline                before the run, if asked for: the same transfers without and with protection
    summary, verdict        facts -> numbers -> verdict
    view, wording, report   for people: the terminal, the HTML page (`series`, `charts`)
    demo, cli               all of it, from options to exit code; the commands

Modules that run as processes of their own inside the namespaces (`guest_server`, `clients`, `sessions`,
`baseline.server`, `baseline.client`) import only the standard library and `msgspec`; `topology` needs pyroute2 and
`view` needs rich.
"""
