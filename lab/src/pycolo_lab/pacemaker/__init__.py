"""The laboratory of the arbiter `pacemaker`: real corosync and Pacemaker, the real agent, a real QEMU pair.

A host is a network, mount and PID namespace. What would run under systemd is started by its first process; its death is
the host's. A power switch outside the hosts fences them.
"""
