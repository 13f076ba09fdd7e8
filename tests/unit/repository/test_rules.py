"""Which tests show which rule of docs/rules.md: each rule has some, and each mark names a rule."""

import ast
import re
from functools import cache
from pathlib import Path

from support.documentation import DOCS, ROOT, load_made

made = load_made()

# rule -> why no test shows it
UNTESTED = {
    "E3": "a stream that is not relayed: docs/adr/0022 rules it out",
}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def marked() -> dict[str, set[str]]:
    """rule -> files with tests that are marked with it."""
    found: dict[str, set[str]] = {}
    for path in made.TESTS.rglob("test_*.py"):
        for rules in made.marked_tests(ast.parse(path.read_text(encoding="utf-8"))):
            for rule in rules:
                found.setdefault(rule, set()).add(shown(path))
    return found


def documented() -> set[str]:
    """The rules of docs/rules.md. That its list of tests is up to date is checked with what else is made there."""
    page = (DOCS / "rules.md").read_text(encoding="utf-8").partition("<!-- begin: rule_tests")[0]
    return set(re.findall(r"^\| ([CRE]\d+) \|", page, re.MULTILINE))


def test_the_rules_are_documented():
    kinds = {kind: sorted(int(rule[1:]) for rule in documented() if rule[0] == kind) for kind in "CRE"}
    assert kinds == {"C": list(range(1, 12)), "R": list(range(1, 5)), "E": list(range(1, 6))}


def test_every_rule_has_a_test():
    assert documented() - marked().keys() == UNTESTED.keys()


def test_every_mark_names_a_rule():
    assert {rule: files for rule, files in marked().items() if rule not in documented()} == {}


def test_marks_are_found_wherever_they_stand():
    source = """
pytestmark = [pytest.mark.tun, pytest.mark.rule("C1")]
@pytest.mark.rule("C2", "C3")
@given(x=1)
def test_one(x): ...
def test_other(): ...
def no_test(): ...
"""
    assert list(made.marked_tests(ast.parse(source))) == [{"C1", "C2", "C3"}, {"C1"}]
