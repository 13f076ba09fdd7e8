"""A small file that is replaced whole, whatever fails and whenever the power does."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pycolo.errors import ConnectError
from pycolo.vm.statefile import replace_durably


class Disk:
    """Notes the calls, and fails with one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int | None = None) -> None:
        self.called: list[str] = []
        self._fails = fails
        self._watch(monkeypatch, os, "fsync")
        self._watch(monkeypatch, Path, "replace")
        self._watch(monkeypatch, os, "open")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.called.append(name)
            if len(self.called) - 1 == self._fails:
                raise OSError(5, "Input/output error")
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)


def test_its_content_is_on_the_disk_before_its_name_and_its_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        replace_durably(tmp_path / "a.json", b"new")
    assert disk.called == ["fsync", "replace", "open", "fsync"]


@pytest.mark.parametrize("fails", range(4))
def test_whatever_fails_the_old_one_or_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    path = tmp_path / "a.json"
    replace_durably(path, b"old")
    with monkeypatch.context() as patch:
        Disk(patch, fails)
        with pytest.raises(ConnectError, match="cannot be written: Input/output error"):
            replace_durably(path, b"new, and longer")
    assert path.read_bytes() in (b"old", b"new, and longer")
    replace_durably(path, b"next")
    assert path.read_bytes() == b"next"
    assert list(tmp_path.iterdir()) == [path]
