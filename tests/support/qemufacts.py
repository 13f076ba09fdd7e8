"""A QEMU that can be protected, as facts."""

from pycolo.qmp.probe import Facts, Netdev, Nic

TAP = Netdev(id="hn0", type="tap", info="ifname=tap0", vnet_header=True)
NIC = Nic(name="net0", model="virtio-net-pci", mac="52:54:00:12:34:56", netdev="hn0")

GOOD = Facts(
    vm="vm1",
    version=(7, 2, 22),
    package="Debian 1:7.2",
    machine="pc-i440fx-7.2-machine",
    accelerator="kvm",
    status="running",
    is_running=True,
    vcpus=4,
    cpu_type="host-x86_64-cpu",
    ram_bytes=1 << 30,
    commands=frozenset({"migrate", "x-colo-lost-heartbeat", "yank"}),
    object_types=frozenset({"filter-redirector"}),
    capabilities={"x-colo": False, "return-path": False},
    migration="none",
    migration_blockers=(),
    netdevs={"hn0": TAP},
    nics=(NIC,),
    disks=(),
    devices=("virtio-net-pci",),
)
