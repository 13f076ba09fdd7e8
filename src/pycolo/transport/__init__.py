"""Shells: everything between the pure cores and the machine that uses sockets, devices, files and threads.

The link to the other node:

* `certs`, `certificates`, `tls`: the other node's identity; where plain text is allowed.
* `linksocket`: one running connection, non-blocking, bounded both ways.
* `linksetup`: how a connection is made: dial or listen, TLS, hello.
* `controlchannel`: the thread that sends heartbeats and receives the other node's.
"""
