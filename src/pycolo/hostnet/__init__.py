"""The host's side of a protected network card: the guest's tap, the bridge that it is in, and the node's TAP.

::

    bridge ─ node's TAP ─ node ─ packet socket on the guest's tap, which is in no bridge ─ QEMU

`wire.Wire` moves the guest's tap from its bridge (Linux bridge or Open vSwitch) to the node and back, and `recovery`
puts back what a dead node has left. What is there is read as facts (`facts`), what to do is planned from facts alone
(`plan`), and `execution` carries the plan out.

This package may know the configuration, `errors` and `limits`. It knows no QEMU, no guest and no node: `node` and `vm`
tell it the name of a tap. It speaks to the kernel by netlink and to Open vSwitch's database over its socket; all calls
block, and all are for the network namespace of the calling thread.
"""
