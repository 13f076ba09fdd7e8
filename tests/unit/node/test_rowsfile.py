"""The file with a survivor's rows: made whole, read with care, refused by name."""

import os
import signal
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.core import Rewriter
from pycolo.errors import ConfigError, ConnectError
from pycolo.node import rowsfile
from pycolo.node.rowsfile import HEADER_BYTES, RowsFile
from support.segments import Tcp
from support.survivors import FLOWS, give, serving


def restored(file):
    rewriter = Rewriter(2, connections_max=64, unacked_bytes_max=1 << 20)
    kept = file.read()
    return rewriter, kept, kept.restore(rewriter, 0)


@pytest.fixture
def file(tmp_path):
    return RowsFile(tmp_path / "rows", "web", lambda: 7)


@pytest.fixture
def written(file):
    file.write(serving())
    return file


def test_what_is_written_is_read(file):
    rewriter = serving()
    file.write(rewriter)
    again, kept, found = restored(file)
    assert (kept.term, found.rows, found.unreadable) == (7, len(FLOWS), 0)
    assert again.is_serving
    assert again.neighbours.all() == rewriter.neighbours.all() != []
    assert sorted(again.export_offsets()) == sorted(rewriter.export_offsets())
    assert os.listdir(file.path.parent) == ["rows"]
    assert file.path.stat().st_mode & 0o077 == 0


def test_its_space_is_reserved(written):
    status = written.path.stat()
    assert status.st_blocks * 512 >= status.st_size, "a page that is not there would kill the node when it is written"


def test_a_node_that_serves_without_such_connections_is_known_too(file):
    file.write(Rewriter(1, connections_max=64))
    _, kept, found = restored(file)
    assert (kept.term, found.rows, found.unreadable) == (7, 0, 0)


def test_no_file_is_a_node_that_did_not_serve(file):
    assert file.read() is None


def test_the_space_is_given_back_with_the_last_row_and_the_file_stays(file):
    rewriter = serving()
    file.write(rewriter)
    size = file.path.stat().st_size
    file.tidy(rewriter, pytest.fail)
    assert file.path.stat().st_size == size
    for flow in FLOWS:
        give(rewriter, Tcp(50_001, "RA", ack=1, flow=flow))
    rewriter.timer_fired((limits.CLOSED_GRACE_MS + 1) * 1000)
    assert rewriter.saved.used == 0
    file.tidy(rewriter, pytest.fail)
    assert file.path.stat().st_size == HEADER_BYTES
    assert restored(file)[2].rows == 0


def test_discarding_leaves_nothing(written):
    written.discard()
    assert os.listdir(written.path.parent) == []
    assert written.read() is None
    written.discard()


def test_a_place_that_takes_no_file_is_said_at_once(tmp_path):
    with pytest.raises(ConnectError, match=r"rows .*/none/rows: No such file or directory"):
        RowsFile(tmp_path / "none" / "rows", "web", lambda: 0).discard()


def test_what_cannot_be_written_leaves_the_rewriter_as_it_was(tmp_path):
    rewriter = serving()
    with pytest.raises(ConnectError, match="a restart of this node will end"):
        RowsFile(tmp_path / "none" / "rows", "web", lambda: 0).write(rewriter)
    assert rewriter.saved.slots == 0
    give(rewriter, Tcp(50_001, "FA", ack=1, flow=FLOWS[0]))


# ── not ours ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_was_restarted_has_no_such_connection(written, monkeypatch):
    monkeypatch.setattr(rowsfile, "boot_id", lambda: bytes(16))
    assert written.read() is None
    assert not written.path.exists()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda octets: b"", f"at least {HEADER_BYTES} bytes"),
        (lambda octets: octets[:100], f"at least {HEADER_BYTES} bytes"),
        (lambda octets: octets[:-1], "room for 4 rows"),
        (lambda octets: b"x" + octets[1:], "rows of translated connections"),
        (lambda octets: octets[:8] + struct.pack(">I", 2) + octets[12:], "expected version 1"),
        (lambda octets: octets[:30] + b"x" + octets[31:], "a whole header"),
        (lambda octets: octets[:300] + b"x" + octets[301:], "a whole header"),
    ],
)
def test_what_is_not_ours_is_refused_by_name(written, damage, text):
    written.path.write_bytes(damage(written.path.read_bytes()))
    with pytest.raises(ConfigError) as refused:
        written.read()
    assert text in str(refused.value)
    assert str(refused.value).startswith(f"rows {written.path}: expected ")
    assert "\n" not in str(refused.value)


def test_another_pairs_file_is_refused(written):
    with pytest.raises(ConfigError, match=r"expected the pair other .*found 'web'"):
        RowsFile(written.path, "other", lambda: 7).read()


def test_more_rows_than_the_table_has_are_refused(written):
    with pytest.raises(ConfigError, match="room for 4 rows"):
        written.read(rows_max=3)


def test_a_link_is_not_followed(written, tmp_path):
    (tmp_path / "link").symlink_to(written.path)
    with pytest.raises(ConfigError, match="can be read and written"):
        RowsFile(tmp_path / "link", "web", lambda: 7).read()


@given(data=st.data())
def test_any_bytes_are_rows_or_a_refusal(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("rows")
    file = RowsFile(place / "rows", "web", lambda: 7)
    file.write(serving())
    octets = bytearray(file.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets) - 1) | st.integers(0, 200))
        noise = data.draw(st.binary(min_size=1, max_size=40))
        octets[at : at + len(noise)] = noise
    octets = octets[: data.draw(st.just(len(octets)) | st.integers(0, len(octets)))]
    file.path.write_bytes(octets)
    kept = refused = None
    try:
        kept = file.read()
    except ConfigError as error:
        refused = error
    assert "\n" not in str(refused)
    if kept is not None:
        again = Rewriter(2, connections_max=64, unacked_bytes_max=1 << 20)
        found = kept.restore(again, 0)
        assert found.rows + found.unreadable <= len(FLOWS)
        for flow in FLOWS:
            give(again, Tcp(50_001, "FA", b"x", ack=1, flow=flow))


# ── killed ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_killed_while_it_writes_leaves_whole_rows(file):
    """Its rows change all the time: the number of the guest's FIN does."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from pycolo.node.rowsfile import RowsFile
from support.survivors import churn
churn(RowsFile(Path({str(file.path)!r}), "web", lambda: 7))
"""
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        _, _, found = restored(file)
        assert (found.rows, found.unreadable) == (len(FLOWS), 0)
