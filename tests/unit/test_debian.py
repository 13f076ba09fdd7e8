"""debian/: what it says twice, it says alike."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIBRARIES, BUILD_TOOLS = (
    re.search(rf"^readonly {name}=\(([^)]*)\)", (ROOT / "scripts/deb.sh").read_text(encoding="utf-8"), re.M)[1].split()
    for name in ("libraries", "build_tools")
)


def text(name: str) -> str:
    return (ROOT / "debian" / name).read_text(encoding="utf-8")


def field(name: str) -> dict[str, str]:
    """A field of the binary package: package -> lowest version."""
    body = re.search(rf"^{name}:\n((?: .*\n)+)", text("control").partition("\nPackage:")[2], re.M)[1]
    found = re.findall(r"^ ([\w.+-]+)(?: \(>= ([\w.~-]+)\))?,$", body, re.M)
    return dict(found)


def debian_name(requirement: Requirement) -> str:
    return f"python3-{canonicalize_name(requirement.name)}"


def lowest(requirement: Requirement) -> str:
    return next(spec.version for spec in requirement.specifier if spec.operator == ">=")


def test_it_depends_on_what_the_package_depends_on_or_brings_it_along():
    wanted = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.name not in LIBRARIES:
            wanted[debian_name(requirement)] = lowest(requirement)
    assert {name: version for name, version in field("Depends").items() if name.startswith("python3")} == wanted


def test_it_recommends_what_the_laboratory_depends_on():
    lab = map(Requirement, PROJECT["optional-dependencies"]["lab"])
    assert {debian_name(requirement): lowest(requirement) for requirement in lab}.items() <= field("Recommends").items()


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
    tags = re.findall(r"^pycolo(?: source)?: ([\w-]+)", text("pycolo.lintian-overrides"), re.M)
    assert tags
    assert [tag for tag in tags if f"`{tag}`" not in decision] == []


def test_both_units_and_the_user_are_in_it():
    rules = text("rules")
    for path in (ROOT / "contrib" / "systemd").iterdir():
        assert f"contrib/systemd/{path.name} " in rules, path.name
    proxy = (ROOT / "contrib/systemd/colo-proxy@.service").read_text(encoding="utf-8")
    sysusers = (ROOT / "contrib/systemd/colo.sysusers").read_text(encoding="utf-8")
    assert re.search(r"^User=colo$", proxy, re.M)
    assert re.search(r"^u colo ", sysusers, re.M)
