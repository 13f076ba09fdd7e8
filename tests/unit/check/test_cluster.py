"""What Pacemaker would permit, and what it manages without being asked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pycolo.check import Level, cluster
from pycolo.check.cluster import cluster_items, managed_files, managed_items
from pycolo.config import PairConfig, parse
from pycolo.errors import PeerError
from support.configs import changed, checkable

STATUS = """<pacemaker-result><summary><cluster_options stonith-enabled="{fences}" maintenance-mode="{maintenance}"/>
</summary><nodes><node name="b" id="2" online="{online}" unclean="false"/></nodes></pacemaker-result>"""
WELL = {"fences": "true", "maintenance": "false", "online": "true", "quorate": "Yes", "node": "b"}
RESOURCES = """<resources><clone><primitive id="{id}" class="ocf" provider="{provider}" type="colo">
<instance_attributes><nvpair name="control" value="/x"/><nvpair name="config" value="{path}"/></instance_attributes>
</primitive></clone></resources>"""


def config(tmp_path: Path, changes: dict[str, Any]) -> PairConfig:
    return parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")


@pytest.mark.parametrize(
    ("fields", "level", "words"),
    [
        ({}, Level.OK, "b is online"),
        ({"fences": "false"}, Level.REFUSED, "stonith-enabled"),
        ({"node": "c"}, Level.REFUSED, "no node c"),
        ({"online": "false"}, Level.WARNING, "b is off"),
        ({"quorate": "No"}, Level.WARNING, "no quorum"),
        ({"maintenance": "true"}, Level.WARNING, "maintenance"),
    ],
)
def test_the_cluster_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], level: Level, words: str
) -> None:
    given = WELL | fields

    async def output(*command: str, codes: Any = (0,)) -> str:
        return STATUS.format(**given) if command[0] == "crm_mon" else f"Quorate:          {given['quorate']}\n"

    monkeypatch.setattr(cluster, "output", output)
    (item,) = asyncio.run(cluster_items(config(tmp_path, {"arbiter.kind": "pacemaker", "arbiter.node": given["node"]})))
    assert item.level is level
    assert words in item.text


def test_a_cluster_that_does_not_answer_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def output(*command: str, **_: Any) -> str:
        raise PeerError("crm_mon: cannot be started: No such file or directory")

    monkeypatch.setattr(cluster, "output", output)
    (item,) = asyncio.run(cluster_items(config(tmp_path, {"arbiter.kind": "pacemaker", "arbiter.node": "b"})))
    assert (item.level, "crm_mon" in item.text) == (Level.WARNING, True)


@pytest.mark.parametrize(("provider", "is_ours"), [("pycolo", True), ("heartbeat", False)])
def test_a_resource_of_this_node_beside_another_arbiter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, is_ours: bool
) -> None:
    given = config(tmp_path, {"arbiter.kind": "manual"})
    path = tmp_path / "vm1.toml"
    path.write_text(changed(checkable(tmp_path)))

    async def output(*command: str, **_: Any) -> str:
        return RESOURCES.format(id="vm1", provider=provider, path=path)

    monkeypatch.setattr(cluster, "output", output)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: "/usr/sbin/cibadmin")
    items = asyncio.run(managed_items(given))
    assert [item.level for item in items] == ([Level.REFUSED] if is_ours else [])
    path.write_text('pair = "other"')
    assert not asyncio.run(managed_items(given))


def test_without_a_cluster_nothing_is_managed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    assert not asyncio.run(managed_items(config(tmp_path, {"arbiter.kind": "manual"})))
    assert not list(managed_files("no XML"))
