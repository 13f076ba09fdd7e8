"""A person's own commands: what is filled in, what stays as it is, and what is refused with which words."""

import pytest

from pycolo_lab.own.commands import CLIENT_PLACES, SERVER_PLACES, CommandError, parse_command

PLACES = {"port": 8080, "host": "10.9.0.2", "dir": "/run/guest"}


def filled(text: str) -> list[str]:
    return parse_command("--serve", text, SERVER_PLACES).filled(PLACES)


def test_places_are_filled_in_wherever_they_stand():
    assert filled("echo {port} x{host}:{port}y '{dir}/a b'")[1:] == ["8080", "x10.9.0.2:8080y", "/run/guest/a b"]


@pytest.mark.parametrize(
    "text",
    [
        '{"port": 1, "a": {"b": {}}}',
        "http { server { listen 80; } }",
        "${PORT}",
        "{}",
        "{ port }",
        "{1}",
        "{Port}",
        "a{b.c}",
        "}}{{",
    ],
)
def test_braces_that_are_no_place_stay(text: str):
    assert parse_command("--serve", f"echo '{text}'", SERVER_PLACES).filled(PLACES)[1] == text


def test_doubled_braces_are_the_way_to_write_a_place_itself():
    assert filled("echo {{port}} {{print}} '{port}'")[1:] == ["{port}", "{print}", "8080"]


def test_an_unknown_place_names_the_known_ones():
    with pytest.raises(CommandError) as caught:
        parse_command("--client", "echo {prot}", CLIENT_PLACES)
    said = str(caught.value)
    assert "{prot} is unknown" in said
    assert "{host}, {port}, {dir}, {n}" in said
    assert "{{prot}}" in said
    assert caught.value.exit_code == 2


def test_the_server_has_no_number_of_runs():
    with pytest.raises(CommandError, match="n} is unknown"):
        filled("echo {n}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the command is empty"),
        ("  ", "the command is empty"),
        ("''", "the command is empty"),
        ("echo 'x", "unclosed quotation mark"),
        ("echo x\\", "unclosed quotation mark"),
        ("no-such-program-at-all {port}", "no-such-program-at-all: there is no such program on PATH"),
        ("/no/such/program", "/no/such/program: no such file"),
        ("/etc/passwd", "/etc/passwd: is not a program that this user may run"),
        ("cd /tmp && echo", "sh -c"),
        ("NAME=value echo", "env NAME=value"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(text: str, words: str):
    with pytest.raises(CommandError) as caught:
        filled(text)
    said = str(caught.value)
    assert words in said
    assert said.startswith("--serve")
    assert "\n" not in said


def test_a_program_is_found_as_a_shell_finds_it_and_by_its_absolute_path_afterwards(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert filled("./program")[0] == str(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert filled("program")[0] == str(program)


def test_a_program_that_is_filled_in_is_looked_for_later():
    assert filled("{dir}/server")[0] == "/run/guest/server"
