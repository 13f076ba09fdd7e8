"""A device is accepted, refused or unknown; never two of them."""

import pytest

from pycolo.qmp.devices import ACCEPTED, REFUSED, is_known, why_refused


def test_nothing_is_accepted_and_refused():
    assert [device for device in ACCEPTED if why_refused(device)] == []


@pytest.mark.parametrize(
    "device", ["vfio-pci", "usb-host", "tpm-tis", "tpm-crb", "vhost-user-fs-pci", "vhost-vsock-pci", "nvdimm"]
)
def test_what_keeps_state_elsewhere_is_refused_by_name_with_a_way_out(device):
    why = why_refused(device)
    assert why is not None
    assert why.startswith(f"{device} ")
    assert ": " in why


@pytest.mark.parametrize("device", ["virtio-gpu-gl-pci", "intel-hda", "e1000e", "nvme"])
def test_what_was_not_tried_is_unknown(device):
    assert not is_known(device)


def test_the_more_special_reason_comes_first():
    kinds = list(REFUSED)
    assert [(one, two) for i, one in enumerate(kinds) for two in kinds[i + 1 :] if two.startswith(one)] == []
