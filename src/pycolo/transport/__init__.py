"""Shells: everything that touches sockets, devices, files and threads between the pure cores and the machine.

The link to the other node:

* `certs`, `certificates`, `tls`: who the other node is; where plain text may be spoken.
* `linksocket`: one running connection, non-blocking, bounded both ways.
* `linksetup`: how a connection comes to be: dial or listen, TLS, hello.
* `controlchannel`: the thread that beats and listens to the other's heart.
"""
