"""QEMU over QMP: a connection whose every command has a time-out, events with their times, a probe of what works.

`client` is one connection, `yank` frees a QEMU that hangs on a dead peer, `probe` queries what a QEMU is and can do,
`judge` decides from the answers whether COLO can work with it, `cures` what must be done to it for that. `commands`
lists everything that is ever sent, `versions` what is known of QEMU's versions, `devices` which ones a guest may have;
`topology` says where its devices are; `guestdisks` are its disks, `diskprobe` asks for them, `diskrules` judges them,
`diskwords` finds them on a command line and writes the secondary's. `process`, `preloaded` and `tapflags` read from the
host what QEMU does not say.
"""
