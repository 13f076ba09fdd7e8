"""`colo proxy`: takes QEMU's own -chardev, -object and -netdev options and does the objects' work in its own process.

It stands beside the nodes: neither imports the other. Only `cli` imports it.

    qemuopts      QEMU's option syntax, and typed reading of properties
    line          a whole command line: what was asked for, checked as a whole
    chardev       socket chardevs as ports
    path          one object's thread: base of the three below
    compare       colo-compare
    notifydev     notify_dev, the Xen protocol
    rewriter      filter-rewriter between four chardevs
    chain         the filters of one netdev, in QEMU's order of execution
    netfilter     a TAP device with filters: filter-mirror, -redirector, -rewriter, -dump
    diagnostics   the state of every object, for people
    exposition    … and for Prometheus; metricsthread: the thread that serves it
    process       opens what the line asks for, and runs it until a signal comes
"""
