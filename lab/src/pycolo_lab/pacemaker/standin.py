#!/usr/bin/python3 -IS
"""A stand-in for a node: does what Pacemaker orders, at once. For ocf-tester, which has one host and no other node.

It is started as `colo node --config FILE`, and listens beside FILE.
"""

import json
import os
import socket
import sys


def main() -> None:
    """Until it is killed."""
    path = os.path.join(os.path.dirname(sys.argv[-1]), "control.sock")
    if os.path.exists(path):
        os.unlink(path)
    role = "unpromoted"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(8)
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile() as stream:
                action = json.loads(stream.readline())["action"]
                role = {"promote": "promoted", "demote": "unpromoted"}.get(action, role)
                connection.sendall(json.dumps({"role": role}).encode() + b"\n")


if __name__ == "__main__":
    main()
