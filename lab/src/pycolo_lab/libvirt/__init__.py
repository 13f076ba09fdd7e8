"""The libvirt laboratory: two hosts with a libvirtd each, a domain, a client, and their failures (`colo lab libvirt`).

A host is a network, mount and PID namespace with configuration, state and sockets of its own, so that everything is
where a user has it: `qemu:///system`, /etc/colo/vm1.toml, /var/lib/libvirt/images.

    releases                which libvirt: this machine's, or Debian 13's in a root of its own
    hosts, host.sh          a host: its power, its libvirtd, what `virsh` says there
    domain                  the domain's XML
    truth                   what must be true on both hosts: domains, QEMUs, bridges
    stage                   all of it together
    scenarios, rounds       what happens when, and what must hold
    held                    a pair that stands until the user ends it
    session                 one run from options to exit code
"""
