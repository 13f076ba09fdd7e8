"""The path of a unix socket before a process listens there."""

import socket

from pycolo.transport.stalesocket import Occupant, clear_path


def test_a_free_path_stays_free(tmp_path):
    assert clear_path(tmp_path / "socket") == Occupant.NOTHING
    assert clear_path(tmp_path / "no" / "such" / "directory") == Occupant.NOTHING


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "socket"))
        killed.listen()
    assert (tmp_path / "socket").is_socket()
    assert clear_path(tmp_path / "socket") == Occupant.NOTHING
    assert not (tmp_path / "socket").exists()


def test_a_process_that_listens_keeps_its_path(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        assert clear_path(tmp_path / "socket") == Occupant.LISTENER
        assert (tmp_path / "socket").is_socket()


def test_a_process_that_is_too_busy_to_accept_keeps_its_path(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        waiting = []
        try:
            while True:
                waiting.append(client := socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                client.connect(str(tmp_path / "socket"))
        except BlockingIOError:
            assert clear_path(tmp_path / "socket") == Occupant.LISTENER
        finally:
            for client in waiting:
                client.close()
        assert (tmp_path / "socket").is_socket()


def test_a_file_is_left_alone(tmp_path):
    (tmp_path / "socket").write_text("precious")
    assert clear_path(tmp_path / "socket") == Occupant.FILE
    assert (tmp_path / "socket").read_text() == "precious"
