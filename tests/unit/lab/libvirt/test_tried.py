"""What the scenario `refused` has libvirt define: the product says of each, without libvirt too, what is looked for."""

import pytest

from pycolo.domain.definition import interfaces, refusals
from pycolo.domain.disks import disk_refusals, read_only_paths
from pycolo.domain.network import missing, network
from pycolo_lab.libvirt.tried import CASES


def said(case):
    """Whatever the product says of the definition."""
    xml = f"<domain type='kvm'><name>vm1</name><devices>{case.device}</devices></domain>"
    found = [*refusals(xml), *disk_refusals(xml)]
    found += [f"{path}, which the guest only reads, is not on this host" for path in read_only_paths(xml)]
    for card in interfaces(xml):
        if case.network:
            one = network(case.network, is_active=False, starts_by_itself=True)
            found += [str(one.why_not), *one.warnings(())]
        elif card.network is not None:
            found.append(missing(card.network))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_is_refused_with_the_words_that_are_looked_for(case):
    assert case.says
    assert [line for line in said(case) if case.says in line]
    assert all("\n" not in line for line in said(case))


def test_cases_have_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES)
