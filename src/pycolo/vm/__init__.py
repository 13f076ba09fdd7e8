"""A node with its QEMU: attach to a running VM, keep the pair in COLO, fail over, make it whole again.

Knows QMP, the link and the data path; nothing but the command line and the laboratory knows it.

    node            `colo node`: what may be asked of it, protect and unprotect
    survivingnode   … who goes on when something breaks
    guestnode       … this host's guest: found or started, wired, kept in a record
    linkednode      … the link: both ways to come to it, questions between the nodes
    primaryguest    the steps of the plans for the primary's QEMU
    secondaryguest  … for the secondary's
    guesthost       what the two need of their node
    relay           the migration stream on its way through the node
    barrier         what must have happened before one of its messages passes
    checkpointdriver  between QEMU, the barrier, the data path and `checkpoint.coordinator`
    machine         one QEMU: process, QMP, events
    wiring          chardevs and filters over QMP
    commandline     … and on a command line
    paths           the data paths, made from the configuration
    qemuport        a chardev's socket that never makes QEMU wait
    memory          a node's memory stays flat
    questions, statefile, hooks, leftover, findings, nodeoptions     one small thing each
"""
