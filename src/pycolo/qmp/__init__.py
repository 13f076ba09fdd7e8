"""QEMU over QMP: a connection whose every command has a time-out, events with their times, a probe of what works.

`client` is one connection, `yank` frees a QEMU that hangs on a dead peer, `probe` asks what this QEMU is and can do,
`judge` says from the answers whether COLO can work with it.
"""
