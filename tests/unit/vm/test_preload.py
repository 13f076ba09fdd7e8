"""The preloaded library in a program that has what it needs of QEMU, and the script that is QEMU with it."""

import subprocess

import pytest

from pycolo.vm.preload import FLAGS, PROGRAM, SOURCE, wrapper

QEMU = r"""
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

bool tcg_allowed;
static bool is_secondary;
static int drops;
static void (*heard)(void *, bool, int);
static void *with;

bool migration_incoming_in_colo_state(void) { return is_secondary; }
void tb_flush__exclusive_or_serial(void) { drops++; }
void *qemu_add_vm_change_state_handler(void (*changed)(void *, bool, int), void *opaque)
{
    heard = changed;
    with = opaque;
    return &heard;
}

int main(int count, char **words)
{
    tcg_allowed = atoi(words[1]);
    is_secondary = atoi(words[2]);
    for (int checkpoint = 0; heard && checkpoint < 3; checkpoint++) {
        heard(with, false, 15);
        printf("%d ", drops);
        heard(with, true, 9);
    }
    printf("%d\n", drops);
    return 0;
}
"""
"""What Debian's QEMU 11.1 exports, counted."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library, compiled as a user does, but with warnings as errors."""
    path = tmp_path_factory.mktemp("preload") / "preload.so"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", *FLAGS, "-o", path, SOURCE], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def qemu(tmp_path_factory):
    """A program with these functions."""
    directory = tmp_path_factory.mktemp("qemu")
    (directory / "qemu.c").write_text(QEMU)
    command = ["gcc", "-rdynamic", "-o", directory / "qemu", directory / "qemu.c"]
    subprocess.run(command, check=True, timeout=60)
    return directory / "qemu"


def said(program, library, *words):
    """Its standard output."""
    environment = {"LD_PRELOAD": str(library)}
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_secondary_drops_its_translations_whenever_it_has_stopped(qemu, library):
    assert said(qemu, library, "1", "1") == ["1", "2", "3", "3"], "each time, before the state is loaded"


@pytest.mark.parametrize(("emulates", "is_secondary"), [("1", "0"), ("0", "1"), ("0", "0")])
def test_a_primary_and_a_guest_under_kvm_keep_theirs(qemu, library, emulates, is_secondary):
    assert said(qemu, library, emulates, is_secondary)[-1] == "0"


def test_a_program_without_these_functions_runs_as_ever(library):
    assert said("/bin/echo", library, "well") == ["well"]


def test_the_wrapper_preloads_the_library_and_hands_every_word_on(tmp_path):
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\necho "$LD_PRELOAD"\nfor word; do echo "$word"; done\n')
    qemu.chmod(0o755)
    script = tmp_path / "wrapper"
    library = tmp_path / "a library's.so"  # which is not there: the loader says so and goes on
    script.write_text(wrapper(library).replace(PROGRAM, str(qemu)))
    done = subprocess.run(
        ["sh", script, "-name", "two words", ""], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [str(library), "-name", "two words", ""]
