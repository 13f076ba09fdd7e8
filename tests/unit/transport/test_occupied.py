"""Who has an address already."""

import errno
import os
import re
import socket

from pycolo.transport.occupied import listener_of_path, listener_of_port, why_not, why_not_unix

IN_USE = OSError(errno.EADDRINUSE, "Address already in use")


def test_the_process_behind_a_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener_of_port(port) == os.getpid()
        line = why_not(IN_USE, port)
    assert re.fullmatch(rf"already running: process {os.getpid()} \(.+\) listens there", line)
    assert listener_of_port(port) is None


def test_a_connection_is_no_listener():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert listener_of_port(client.getsockname()[1]) is None


def test_the_process_behind_a_path_is_named(tmp_path):
    path = str(tmp_path / "s")
    assert listener_of_path(path) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert listener_of_path(path) == os.getpid()
        assert why_not_unix(path).startswith(f"already running: process {os.getpid()} (")


def test_of_another_user_it_cannot_be_told(tmp_path):
    """As where /proc shows no descriptors."""
    assert listener_of_port(1, tmp_path) is None
    assert why_not_unix(str(tmp_path / "none")) == "already in use"


def test_another_reason_is_said_as_it_is():
    assert why_not(PermissionError(errno.EACCES, "Permission denied"), 80) == "Permission denied"
