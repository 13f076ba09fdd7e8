"""What the tests of the commands share."""

import sys

import pytest

from pycolo import cli


@pytest.fixture
def colo(monkeypatch, capfd):
    """Runs `colo …` in this process; (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["colo", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capfd.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return run
