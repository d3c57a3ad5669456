"""weft-host hands NICs to DPDK and back, on made-up hosts."""

import pytest

from made_up_host import ROUTE_HEAD, driver


@pytest.mark.parametrize("name", ["0000:01:00.0", "01:00.0", "eth1"])
def test_bind_and_release(nic, name):
    nic.run("bind", name)
    assert driver(nic) == "vfio-pci"
    assert nic.log.read_text() == "--bind=vfio-pci 0000:01:00.0\n"
    assert "already" in nic.run("bind", "0000:01:00.0")
    nic.run("release")
    assert driver(nic) == "e1000e"
    assert not nic.state.exists()


def test_unbind_goes_back_to_the_first_driver(nic):
    nic.run("bind", "eth1")
    nic.run("bind", "0000:01:00.0", "--driver", "uio_pci_generic")
    nic.run("unbind", "0000:01:00.0")
    assert driver(nic) == "e1000e"
    assert not nic.state.exists()
    assert "already" in nic.run("unbind", "0000:01:00.0")


def test_unbind_without_memory_asks_the_kernel(nic):
    nic.run("bind", "eth1")
    nic.state.unlink()
    nic.write("sys/bus/pci/drivers_probe", "")
    nic.run("unbind", "0000:01:00.0")
    assert driver(nic) is None
    assert (nic.root / "sys/bus/pci/drivers_probe").read_text() == "0000:01:00.0"
    assert (nic.root / "sys/bus/pci/devices/0000:01:00.0/driver_override").read_text() == "\n"


def test_the_default_route_is_protected(nic):
    nic.default_route("eth1")
    before = nic.snapshot()
    out = nic.run("bind", "0000:01:00.0", rc=1)
    assert "default route" in out and "--force" in out
    assert nic.snapshot() == before
    nic.run("bind", "0000:01:00.0", "--force")
    assert nic.log.read_text() == "--bind=vfio-pci --force 0000:01:00.0\n"


def test_the_ipv6_default_route_is_protected(nic):
    zero = "0" * 32
    nic.write(
        "proc/net/ipv6_route",
        f"{zero} 00 {zero} 00 fe80{'0' * 27}1 00000400 00000002 00000000 00000003     eth1\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n",
    )
    assert "default route" in nic.run("bind", "eth1", rc=1)


@pytest.mark.parametrize("chain", [["bond0"], ["br0", "bond0"], ["bond0.100", "bond0"]])
def test_the_default_route_is_protected_through_bonds_bridges_and_vlans(nic, chain):
    for upper, lower in zip(chain, chain[1:] + ["eth1"]):
        d = nic.root / f"sys/class/net/{upper}"
        d.mkdir(parents=True)
        (d / f"lower_{lower}").symlink_to(nic.root / f"sys/class/net/{lower}")
    nic.default_route(chain[0])
    assert "default route" in nic.run("bind", "eth1", rc=1)


def test_the_default_route_of_a_virtio_nic(host):
    # Its interface hangs below the PCI function: .../0000:00:03.0/virtio1
    host.add_nic("0000:00:03.0", "ens3", driver="virtio-pci", group=1, below="virtio1")
    host.load_vfio()
    host.default_route("ens3")
    assert "default route" in host.run("bind", "00:03.0", rc=1)


def test_another_route_is_protected_and_another_nic_is_not(nic):
    nic.add_nic("0000:02:00.0", "eth2", group=6)
    nic.default_route("eth2")
    nic.run("bind", "eth1")
    nic.write("proc/net/route", ROUTE_HEAD + "eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    assert "carries routes" in nic.run("bind", "eth2", rc=1)


def test_without_iommu(nic):
    nic.add_nic("0000:03:00.0", "eth3")
    out = nic.run("bind", "eth3", rc=1)
    assert "IOMMU" in out and "--noiommu" in out
    mode = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
    nic.write(mode, "N\n")
    assert "any memory" in nic.run("bind", "eth3", "--noiommu")
    assert (nic.root / mode).read_text() == "1"
    nic.run("release", "nics")
    assert (nic.root / mode).read_text() == "N"
    assert driver(nic, "0000:03:00.0") == "e1000e"


def test_neighbours_in_the_iommu_group_are_named(nic):
    nic.add_nic("0000:01:00.1", "eth2", group=5)
    out = nic.run("bind", "eth1")
    assert "0000:01:00.1 shares the IOMMU group" in out


def test_what_is_not_a_nic(nic):
    nic.add_nic("0000:04:00.0", driver="nvme", pci_class="0x010802")
    assert "not a NIC" in nic.run("bind", "0000:04:00.0", rc=1)
    assert "no PCI device" in nic.run("bind", "0000:09:00.0", rc=1)
    assert "no NIC" in nic.run("bind", "eth9", rc=1)
    assert "no NIC" in nic.run("bind", "../../etc", rc=1)
    (nic.root / "sys/class/net/veth0").mkdir()
    assert "af_packet" in nic.run("bind", "veth0", rc=1)


def test_a_failing_devbind_is_an_error_and_remembers_nothing(nic):
    nic.devbind.write_text("#!/bin/sh\nexit 1\n")
    assert "failed" in nic.run("bind", "eth1", rc=1)
    assert not nic.state.exists()
