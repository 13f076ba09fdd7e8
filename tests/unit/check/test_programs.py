"""Programs that can be started, and the reasons why others cannot: the same that the kernel has."""

import subprocess

import pytest

from pycolo.check.programs import find_program


def program(tmp_path, text, mode=0o755, name="hook"):
    path = tmp_path / name
    path.write_bytes(text)
    path.chmod(mode)
    return path


def starts(path):
    """What execve() says, without a shell's help."""
    try:
        subprocess.run([str(path)], check=True, timeout=60)
    except OSError:
        return False
    return True


GOOD = {
    "a script": b"#!/bin/sh\n",
    "a script with an argument": b"#!/bin/sh -e\nexit 0\n",
    "a script with spaces": b"#! /bin/sh\nexit 0\n",
    "a script of env": b"#!/usr/bin/env sh\nexit 0\n",
}

BAD = {
    "no interpreter": (b"#!/bin/bsh\n", "interpreter '/bin/bsh'"),
    "line ends of another system": (b"#!/bin/sh\r\nexit 0\r\n", r"interpreter '/bin/sh\r'"),
    "no first line": (b"ip link set tap0 nomaster\n", "neither a program nor a script"),
    "nothing": (b"", "is empty"),
    "a directory for an interpreter": (b"#!/bin\n", "interpreter '/bin'"),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_starts_has_no_fault(tmp_path, text):
    path = program(tmp_path, GOOD[text])
    assert find_program(str(path)) == (path, "")
    assert starts(path)


@pytest.mark.parametrize("text", BAD)
def test_what_does_not_start_has_one(tmp_path, text):
    octets, says = BAD[text]
    path = program(tmp_path, octets)
    found, fault = find_program(str(path))
    assert found == path
    assert says in fault
    assert not starts(path)


def test_env_looks_for_its_program(tmp_path):
    assert (
        "'no-such-shell' is not in PATH" in find_program(str(program(tmp_path, b"#!/usr/bin/env no-such-shell\n")))[1]
    )


def test_a_misspelt_name_is_told_the_right_one(tmp_path):
    program(tmp_path, b"#!/bin/sh\n", name="fence-peer")
    assert find_program(str(tmp_path / "fence-pear")) == (
        None,
        f"{tmp_path}/fence-pear does not exist: did you mean {tmp_path}/fence-peer?",
    )
    assert find_program(str(tmp_path / "none" / "x"))[1].endswith("does not exist: correct the path, or install it")


def test_names_without_a_path_are_searched(tmp_path):
    path = program(tmp_path, b"#!/bin/sh\n")
    assert find_program("hook", str(tmp_path)) == (path, "")
    assert find_program("no-such-hook", str(tmp_path))[1] == (
        f"there is no program no-such-hook in PATH ({tmp_path}): install it, or write its whole path"
    )
    assert find_program("sh")[1] == ""


def test_a_relative_path_is_another_one_for_the_node(tmp_path, monkeypatch):
    program(tmp_path, b"#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    assert "write its whole path" in find_program("./hook")[1]


def test_what_is_no_program_is_named(tmp_path):
    assert f"chmod +x {tmp_path}/hook" in find_program(str(program(tmp_path, b"#!/bin/sh\n", 0o644)))[1]
    assert "is a directory" in find_program(str(tmp_path))[1]
