"""The QEMU laboratory: two real virtual machines, two hosts, a client, and their failures (`colo lab qemu`).

Like the rest of the laboratory it uses only what any user has: QEMU's command line, the node's configuration file, its
command line and its control socket. It imports no core and no node.

    options, checks         what the run is told; what it needs, looked at before anything is installed or built
    programs                what has to be installed, and who installs it
    image                   kernel, initramfs, what QEMU preloads; built once and kept in build/lab
    initramfs               files -> a cpio archive
    machine                 which QEMU, which accelerator, its command line
    otherdebian             other Debians, each in a root of its own
    topology                hosts, bridges, taps, the client's LAN, the link
    nodes, control          vm.toml for both, the fencing command; questions to a node
    stage                   all of it together: a pair that protects
    monitor                 QMP, as much of it as a bystander needs
    counter, law            the client that counts, and what its answers must obey
    store                   the etcd that some scenarios have, on a machine of its own
    scenarios, act, runner  what dies when; what is done in one round; how a scenario is played
    pause                   how long a checkpoint stops the primary: through the nodes, and over QEMU's own tcp:
    facts, summary, session what was measured, the table, and one run from options to exit code
"""
