"""The recipes of the documentation and the cluster of the laboratory are made from the same data."""

from pathlib import Path

import pytest

from pycolo_lab.pacemaker import recipes
from pycolo_lab.pacemaker.cluster import recipe
from pycolo_lab.pacemaker.recipes import DOCUMENTED, facts_in, facts_of

PAGE = Path(__file__).resolve().parents[4] / "docs" / "pacemaker.md"


@pytest.mark.parametrize("text", [recipes.pcs(DOCUMENTED), recipes.crm(DOCUMENTED)])
def test_the_documented_commands_are_these(text):
    assert text in PAGE.read_text()


def test_the_laboratorys_cluster_differs_from_the_documented_one_in_its_devices_and_paths_alone():
    documented, played = (
        {fact for fact in facts_of(one) if fact.startswith(("vm1 op", "vm1-clone", "vm1 migration", "vm1 priority"))}
        for one in (DOCUMENTED, recipe(Path("/colo"), 2, ""))
    )
    assert documented == played
    assert len(documented) == 7 + 6 + 2


def test_a_recipe_quotes_words_with_spaces():
    assert 'pcmk_host_list="a b"' in recipes.crm(recipe(Path("/colo"), 2, ""))


CIB = """<cib><configuration><crm_config><cluster_property_set id="x">
<nvpair id="1" name="stonith-enabled" value="true"/><nvpair id="2" name="dc-version" value="2"/></cluster_property_set>
</crm_config><resources><clone id="vm1-clone"><meta_attributes id="m"><nvpair id="3" name="notify" value="true"/>
</meta_attributes><primitive id="vm1" class="ocf" provider="pycolo" type="colo">
<instance_attributes id="i"><nvpair id="4" name="config" value="/vm"/></instance_attributes>
<operations><op id="5" name="start" interval="0s" timeout="40s"/>
<op id="6" name="monitor" timeout="20s" interval="2s" role="Promoted"/></operations></primitive></clone></resources>
<constraints><rsc_location id="7" rsc="vm1-clone" score="-inf" node="c"/></constraints></configuration></cib>"""


def test_what_a_cluster_has_is_read_whatever_ids_and_order_a_tool_gives():
    assert facts_in(CIB, DOCUMENTED) == {
        "property stonith-enabled=true",
        "vm1 ocf:pycolo:colo",
        "vm1 config=/vm",
        "vm1 op start interval=0 timeout=40s",
        "vm1 op monitor interval=2s role=Promoted timeout=20s",
        "vm1-clone notify=true",
        "vm1-clone -INFINITY c",
    }
