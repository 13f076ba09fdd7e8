"""Commands that other distributions add to `colo`, and what is said of those that cannot be had."""

import re
import sys
from importlib.metadata import EntryPoint, EntryPoints

import click
import pytest

from pycolo.cli import COMMANDS, added, colo, main


@click.command(short_help="Greet.")
@click.argument("name")
def greet(name):
    """Greet NAME."""
    click.echo(f"hello {name}")


NO_COMMAND = object()


@pytest.fixture
def install(monkeypatch):
    """Let entry points be installed: names of this module's, by the names of their commands."""

    def installed(**values):
        points = [EntryPoint(name, f"{__name__}:{value}", added.GROUP) for name, value in values.items()]
        monkeypatch.setattr(added, "entry_points", lambda **given: EntryPoints(points).select(**given))

    installed()
    return installed


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs `colo …` in this process; (exit code, standard output, standard error)."""

    def running(*words):
        monkeypatch.setattr(sys, "argv", ["colo", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capfd.readouterr()
        return caught.value.code or 0, said.out, said.err

    return running


def test_an_added_command_is_listed_and_runs(install, run):
    install(greet="greet")
    code, out, _ = run("--help")
    assert code == 0
    assert re.search(r"^  greet +Greet\.$", out, re.MULTILINE)
    assert run("greet", "you") == (0, "hello you\n", "")


def test_an_added_command_never_stands_in_for_one_of_the_products_own(install):
    install(**dict.fromkeys(COMMANDS, "greet"))
    context = click.Context(colo)
    assert [name for name in COMMANDS if colo.get_command(context, name) is greet] == []
    assert colo.list_commands(context) == sorted(COMMANDS)


def test_for_one_of_the_products_own_commands_nothing_installed_is_read(monkeypatch):
    monkeypatch.setattr(added, "entry_points", lambda **_given: pytest.fail("read"))
    for name in COMMANDS:
        assert colo.get_command(click.Context(colo), name)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["qemu", "--hold"], ["--", "--seconds", "4"]])
@pytest.mark.parametrize("name", added.ELSEWHERE)
def test_a_command_that_is_not_installed_is_one_line_that_says_what_to_install(install, run, name, words):
    code, out, err = run(name, *words)
    assert (code, out) == (1, "")
    assert err.startswith(f"colo: {name} is a command of pycolo-lab, which is not installed: pip install pycolo-lab")
    assert err.count("\n") == 1


def test_a_command_that_is_not_installed_is_not_listed(install, run):
    _, out, _ = run("--help")
    commands = out.partition("Commands:\n")[2]
    assert sorted(line.split()[0] for line in commands.splitlines() if not line.startswith("   ")) == sorted(COMMANDS)


@pytest.mark.parametrize(("value", "why"), [("nothing_there", "cannot be loaded"), ("NO_COMMAND", "is not a command")])
def test_a_broken_one_is_one_line_and_breaks_no_other(install, run, value, why):
    install(broken=value, greet="greet")
    code, out, err = run("broken", "--help")
    assert (code, out) == (1, "")
    assert why in err
    assert err.count("\n") == 1
    code, out, _ = run("--help")
    assert code == 0
    assert re.search(r"^  broken +Cannot be loaded: run it to see why\.$", out, re.MULTILINE)
    assert run("greet", "you")[0] == 0


def test_what_is_neither_is_wrong_usage(install, run):
    code, _, err = run("no-such-command")
    assert code == 2
    assert err.count("\n") == 1
