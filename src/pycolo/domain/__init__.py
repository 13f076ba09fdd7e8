"""A guest that libvirt has started: its monitor, its definition on the other host, and where it believes the taps are.

libvirt owns a domain's only monitor and gives its taps back to their bridge whenever it is started again, so a node
asks and moves nothing behind its back. The binding is an extra (`pycolo[libvirt]`, Debian's python3-libvirt), loaded
when a file names a domain. See docs/adr/0066.
"""
