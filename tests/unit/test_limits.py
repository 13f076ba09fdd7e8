"""`pycolo.limits` says what bounds the program: each bound is used, and none is written down a second time."""

import ast
import re
from pathlib import Path

import pytest

from pycolo import limits

SOURCE = Path(limits.__file__).parent
NAMES = [name for name in vars(limits) if name.isupper()]
USERS = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted(SOURCE.rglob("*"))
    if path.suffix in {".py", ".pxi", ".pyx"} and path != Path(limits.__file__)
)


@pytest.mark.parametrize("name", NAMES)
def test_every_bound_is_used(name: str) -> None:
    assert re.search(rf"\b{name}\b", USERS), f"{name} bounds nothing"


def test_every_bound_has_its_reason() -> None:
    body = ast.parse(Path(limits.__file__).read_text(encoding="utf-8")).body
    for number, statement in enumerate(body):
        if isinstance(statement, ast.AnnAssign):
            below = body[number + 1]
            assert isinstance(below, ast.Expr), ast.unparse(statement)
            assert isinstance(below.value, ast.Constant), ast.unparse(statement)
