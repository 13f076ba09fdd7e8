"""The resources of a pair as data, as the commands of `pcs` and `crm`, and as what a cluster has of them afterwards.

The laboratory's cluster and the recipes of docs/pacemaker.md are made from the same data.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

RESOURCE: Final = "vm1"
CLONE: Final = f"{RESOURCE}-clone"

OPERATIONS: Final = (
    (("start", "timeout=40s"), ("stop", "timeout=60s")),
    (("promote", "timeout=40s"), ("demote", "timeout=40s"), ("notify", "timeout=20s")),
    (("monitor", "interval=2s", "role=Promoted", "timeout=20s"),),
    (("monitor", "interval=3s", "role=Unpromoted", "timeout=20s"),),
)
"""By the lines of a recipe."""

CLONED: Final = {
    "promoted-max": "1",
    "clone-max": "2",
    "clone-node-max": "1",
    "notify": "true",
    "interleave": "true",
}


class Power(NamedTuple):
    """A fence device."""

    name: str
    agent: str
    parameters: Mapping[str, str]


class Recipe(NamedTuple):
    """Of one pair. `absent`: a host that only votes."""

    properties: Mapping[str, str]
    powers: tuple[Power, ...]
    parameters: Mapping[str, str]
    failure_timeout: str = "60s"
    absent: str = ""

    @property
    def meta(self) -> dict[str, str]:
        """Of the resource within the clone."""
        return {"migration-threshold": "5", "failure-timeout": self.failure_timeout, "priority": "10"}


def ipmi(letter: str, address: str) -> Power:
    """The documentation's fence device of one host."""
    parameters = {
        "ip": address,
        "username": "admin",
        "password_script": f"/etc/pacemaker/ipmi-{letter}",
        "lanplus": "1",
        "pcmk_host_list": f"host-{letter}",
    }
    return Power(f"power-{letter}", "fence_ipmilan", parameters)


DOCUMENTED: Final = Recipe(
    {"stonith-enabled": "true", "priority-fencing-delay": "15s"},
    (ipmi("a", "10.0.0.101"), ipmi("b", "10.0.0.102")),
    {"config": "/etc/colo/vm1.toml"},
)


def _pairs(values: Mapping[str, str]) -> str:
    return " ".join(f'{name}="{value}"' if " " in value else f"{name}={value}" for name, value in values.items())


def pcs(recipe: Recipe, file: str = f"{RESOURCE}.xml") -> str:
    """Commands for a shell. All at once, by way of `file`: the resource would begin before its constraint is there."""
    lines = [f"property set {_pairs(recipe.properties)}"]
    lines += [f"stonith create {power.name} {power.agent} {_pairs(power.parameters)}" for power in recipe.powers]
    lines.append(f"resource create {RESOURCE} ocf:pycolo:colo {_pairs(recipe.parameters)} \\")
    more = [f"    {' '.join('op ' + ' '.join(words) for words in line)} \\" for line in OPERATIONS]
    more += [f"    meta {_pairs(recipe.meta)} \\", f"    promotable {_pairs(CLONED)}"]
    after = [f"constraint location {CLONE} avoids {recipe.absent}"] if recipe.absent else []
    first, last = ([f"pcs -f {file} {line}" for line in part] for part in (lines, after))
    return "\n".join([f"pcs cluster cib {file}", *first, *more, *last, f"pcs cluster cib-push {file} --config"]) + "\n"


def crm(recipe: Recipe) -> str:
    """Commands of `crm configure`."""
    lines = [f"property {_pairs(recipe.properties)}"]
    for power in recipe.powers:
        lines.append(f"primitive {power.name} stonith:{power.agent} params {_pairs(power.parameters)} \\")
        lines.append("    op monitor interval=60s")
    lines += [f"primitive {RESOURCE} ocf:pycolo:colo params {_pairs(recipe.parameters)} \\"]
    for line in OPERATIONS:
        zero = "" if line[0][0] == "monitor" else " interval=0s"
        lines.append(f"    {' '.join('op ' + ' '.join(words) + zero for words in line)} \\")
    lines += [f"    meta {_pairs(recipe.meta)}"]
    lines += [f"clone {CLONE} {RESOURCE} \\", f"    meta promotable=true {_pairs(CLONED)}"]
    if recipe.absent:
        lines.append(f"location {CLONE}-votes {CLONE} -inf: {recipe.absent}")
    return "\n".join(lines) + "\n"


# ── what a cluster has ──────────────────────────────────────────────────────────────────────────────────────


def facts_of(recipe: Recipe) -> set[str]:
    """What the cluster must have, as `facts_in` shows it."""
    found = {f"property {name}={value}" for name, value in recipe.properties.items()}
    for power in recipe.powers:
        found |= {f"{power.name} stonith:{power.agent}", f"{power.name} op monitor interval=60s"}
        found |= {f"{power.name} {name}={value}" for name, value in power.parameters.items()}
    found.add(f"{RESOURCE} ocf:pycolo:colo")
    for words in (words for line in OPERATIONS for words in line):
        interval = () if words[0] == "monitor" else ("interval=0",)
        found.add(f"{RESOURCE} op {words[0]} {' '.join(sorted((*interval, *words[1:])))}")
    found |= {f"{RESOURCE} {name}={value}" for name, value in {**recipe.parameters, **recipe.meta}.items()}
    found |= {f"{CLONE} {name}={value}" for name, value in {**CLONED, "promotable": "true"}.items()}
    if recipe.absent:
        found.add(f"{CLONE} -INFINITY {recipe.absent}")
    return found


def facts_in(cib: str, recipe: Recipe) -> set[str]:
    """The same of a CIB. Of the cluster's properties only those that the recipe sets; ids are of no account."""
    root = ET.fromstring(cib)  # noqa: S314 - the laboratory's own
    properties = root.findall("./configuration/crm_config/cluster_property_set/nvpair")
    found = {f"property {name}={value}" for name, value in map(_pair, properties) if name in recipe.properties}
    for clone in root.findall("./configuration/resources/clone"):
        found |= set(_values(clone))
    for primitive in root.findall("./configuration/resources//primitive"):
        kind = (primitive.get(name) for name in ("class", "provider", "type"))
        found.add(f"{primitive.get('id')} {':'.join(filter(None, kind))}")
        found |= set(_values(primitive))
        for operation in primitive.findall("./operations/op"):
            words = {name: value for name, value in operation.items() if name not in ("id", "name")}
            words["interval"] = words["interval"].removesuffix("s") if words["interval"] == "0s" else words["interval"]
            shown = " ".join(sorted(f"{name}={value}" for name, value in words.items()))
            found.add(f"{primitive.get('id')} op {operation.get('name')} {shown}")
    for rule in root.findall("./configuration/constraints/rsc_location[@node]"):
        score = str(rule.get("score")).upper().replace("-INFINITY", "-INF").replace("-INF", "-INFINITY")
        found.add(f"{rule.get('rsc')} {score} {rule.get('node')}")
    return found


def _pair(nvpair: ET.Element) -> tuple[str, str]:
    return nvpair.get("name", ""), nvpair.get("value", "")


def _values(owner: ET.Element) -> Iterator[str]:
    for kind in ("instance_attributes", "meta_attributes"):
        for nvpair in owner.findall(f"./{kind}/nvpair"):
            name, value = _pair(nvpair)
            yield f"{owner.get('id')} {name}={value}"
