"""debian/: what it says twice, it says alike."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT, LAB = (
    tomllib.loads((ROOT / name).read_text(encoding="utf-8"))["project"]
    for name in ("pyproject.toml", "lab/pyproject.toml")
)
LIBRARIES, BUILD_TOOLS = (
    re.search(rf"^readonly {name}=\(([^)]*)\)", (ROOT / "scripts/deb.sh").read_text(encoding="utf-8"), re.M)[1].split()
    for name in ("libraries", "build_tools")
)


def text(name: str) -> str:
    return (ROOT / "debian" / name).read_text(encoding="utf-8")


def depends(package: str) -> dict[str, str]:
    """What a binary package depends on -> lowest version."""
    paragraph = text("control").partition(f"\nPackage: {package}\n")[2].partition("\nPackage:")[0]
    body = re.search(r"^Depends:\n((?: .*\n)+)", paragraph, re.M)[1]
    return dict(re.findall(r"^ ([\w.+-]+)(?: \(>= ([^)]+)\))?,$", body, re.M))


def debian_name(requirement: Requirement) -> str:
    return f"python3-{canonicalize_name(requirement.name)}"


def lowest(requirement: Requirement) -> str:
    return next(spec.version for spec in requirement.specifier if spec.operator == ">=")


@pytest.mark.parametrize(("package", "project"), [("pycolo", PROJECT), ("pycolo-lab", LAB)])
def test_each_depends_on_what_its_distribution_depends_on_or_finds_it_there(package, project):
    wanted = {}
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.name not in (*LIBRARIES, "pycolo"):
            wanted[debian_name(requirement)] = lowest(requirement)
    assert {name: version for name, version in depends(package).items() if name.startswith("python3-")} == wanted


def test_the_laboratory_is_for_the_version_that_it_was_built_with():
    assert depends("pycolo-lab")["pycolo"] == "${source:Version}"
    assert " pycolo (<< ${source:Version}.~),\n" in text("control")


def test_what_it_brings_along_is_pinned_and_has_its_license():
    pins = (ROOT / "requirements.lock").read_text(encoding="utf-8").lower()
    for name in (*LIBRARIES, *BUILD_TOOLS):
        assert re.search(rf"^{re.escape(name.lower())}==", pins, re.M), name
    for name in (*LIBRARIES, "build"):
        assert f"Files: vendor/{name}/*" in text("copyright")


def test_its_version_is_the_projects():
    assert re.match(rf"pycolo \({re.escape(PROJECT['version'])}-\d+\) ", text("changelog"))
    assert f"Homepage: {PROJECT['urls']['Homepage']}\n" in text("control")


def test_every_override_of_lintian_stands_in_the_decision():
    decision = (ROOT / "docs/adr/0027-debian-package.md").read_text(encoding="utf-8")
    tags = []
    for package in ("pycolo", "pycolo-lab"):
        found = re.findall(rf"^{package}(?: source)?: ([\w-]+)", text(f"{package}.lintian-overrides"), re.M)
        assert found
        tags += found
    assert [tag for tag in tags if f"`{tag}`" not in decision] == []


def test_both_units_and_the_user_are_in_it():
    rules = text("rules")
    for path in (ROOT / "contrib" / "systemd").iterdir():
        assert f"contrib/systemd/{path.name} " in rules, path.name
    proxy = (ROOT / "contrib/systemd/colo-proxy@.service").read_text(encoding="utf-8")
    sysusers = (ROOT / "contrib/systemd/colo.sysusers").read_text(encoding="utf-8")
    assert re.search(r"^User=colo$", proxy, re.M)
    assert re.search(r"^u colo ", sysusers, re.M)
