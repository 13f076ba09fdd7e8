"""A node with its QEMU: attaches to a running VM, keeps the pair in COLO, fails over, and re-protects the guest.

Only the command line imports it. What the pair does is decided by `failover.pairtable`, as for every node.

    assembly        `colo node`, put together of its parts: those of `pycolo.node`, and these:
    guest           this host's QEMU as the pair table sees it: its commands begin plans, plans end with facts
    primaryguest    the steps of the plans for the primary's QEMU
    secondaryguest  … for the secondary's
    attempt         one attempt to protect the guest
    jobs            what the guest is busy with: one job after another
    pathslot        the data paths of this host's guest, one for each card, or none
    primarypaths    … of the primary's guest, and the node's place in its network
    cardrows        what a takeover keeps for each card
    guestwiring     how the node stands in the guest's path
    tapwiring       … with its own TAP in the place of the guest's
    guesthost       what a guest needs of its node; host: that, made of the node's parts
    sides           where the links of a node whose role changes come from
    arrivals        a connection that is waited for has one owner
    otherpaths      questions to the other node apart from the link
    recordkeeper    keeps the node's record; statefile: on disk
    operator        what an operator may ask
    checking        what a running node adds to `colo check`; checkdisks: of its disks
    vhostcheck      tries a pair whose guest has vhost
    services        metrics, and what systemd is told
    relay           the migration stream on its way through the node
    backstream      its reverse direction, as messages
    barrier         what must have happened before one of its messages passes
    firstsync       waits for the first copy, which has to come to an end
    looks           at the guest's memory between two checkpoints; memorysample: a sample of it
    checkpointdriver  between QEMU, the barrier, the data path and `checkpoint.coordinator`; guestcheckpoints: its view
                    of the guest
    curing          what QEMU's bugs need at certain moments: `qmp.cures`, carried out
    primarydisks    the disks of the primary's guest, copied and watched; secondarydisks: the copies, and their overlays
    disksettling    puts a survivor's overlays into its images; disknote: what these are worth; hostdisks: of one node
    blockunit       a device that both hosts may have
    diskexports     the end of the copies' exports, at a takeover
    disklink        a disk's writes on their way through the node; pump: one direction of a stream
    diskimages      files of disks, with qemu-img
    machine         one QEMU: process, QMP, events
    commandline     what a QEMU needs on its command line
    paths           the data paths, made from the configuration
    memory          a node's memory stays flat
    hooks, leftover, findings, nodeoptions     one small thing each
"""
