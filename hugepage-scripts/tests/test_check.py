"""weft-host says what is missing, what is, and what it would do, on made-up hosts."""

import pytest

from made_up_host import KB_1G, driver


# ---- check, status, mount ---------------------------------------------------------------------


def test_check_names_everything_missing_and_its_mend(host):
    host.write("proc/cpuinfo", "flags\t\t: fpu sse2\n")
    out = host.run("check", "--nic", "--memory", 2048, rc=1, WEFT_HOST_DEVBIND="no-such-devbind")
    for text in (
        "MISSING  a CPU with SSE4.2",
        "apt-get install dpdk libdpdk-dev",
        "MISSING  dpdk-devbind.py",
        "reserve --node 0 --memory 2048",
        "reserve --node 1 --memory 2048",
        "intel_iommu=on",
        "modprobe vfio-pci",
        "isolcpus=managed_irq,domain,2-7",
    ):
        assert text in out, text
    assert "7 missing." in out


def test_check_on_a_ready_host(host):
    host.write("usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_e1000.so.23", "")
    host.write("sys/devices/system/cpu/isolated", "2-7\n")
    host.write("proc/mounts", "h /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n")
    host.add_nic("0000:01:00.0", "eth1", group=5)
    host.load_vfio()
    host.set_pages(0, 512)
    host.set_pages(1, 1, kb=KB_1G)
    host.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    out = host.run("check", "--nic")
    assert "MISSING" not in out and "note" not in out
    assert "isolated cores 2-7 of 0-7" in out


def test_check_without_a_nic_only_notes_the_iommu(host):
    host.write("usr/lib/dpdk/pmds-23.0/librte_net_e1000.so.23", "")
    host.set_pages(0, 512)
    host.set_pages(1, 512)
    out = host.run("check")
    assert "note     an active IOMMU" in out and "Nothing that weftd needs is missing." in out


def test_check_notes_that_transparent_hugepages_are_off(host):
    enabled = "sys/kernel/mm/transparent_hugepage/enabled"
    host.write(enabled, "always madvise [never]\n")
    out = host.run("check", rc=1)
    assert "note     transparent hugepages are off" in out
    assert f"echo madvise > {host.root}/{enabled}" in out
    for mode in ("[always] madvise never\n", "always [madvise] never\n"):
        host.write(enabled, mode)
        assert "ok       transparent hugepages" in host.run("check", rc=1)


def test_check_memlock(host):
    out = host.run("check", rc=1, WEFT_HOST_MEMLOCK="8192")
    assert "memlock 8192 kB" in out


def test_status(nic):
    nic.default_route("eth1")
    nic.set_pages(1, 12, free=7)
    nic.write("proc/mounts", "h /mnt/huge hugetlbfs rw,relatime,pagesize=1024M 0 0\n")
    out = nic.run("status")
    assert "node 1   2M      12 total      7 free" in out
    assert "1G  /mnt/huge" in out
    assert "0000:01:00.0 driver e1000e node 0, interface eth1, default route" in out
    nic.run("bind", "eth1", "--force")
    assert "bind 0000:01:00.0 e1000e" in nic.run("status")


def test_mount_where_it_is_mounted_already(host):
    host.write("proc/mounts", "h /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n")
    assert "already mounted on /dev/hugepages" in host.run("mount")
    out = host.run("mount", "--size", "1G", "--dry-run")
    assert "would run: mount -t hugetlbfs -o pagesize=1G weft-hugepages /dev/hugepages1G" in out
    host.write("proc/mounts", "x /mnt/y tmpfs rw 0 0\n")
    assert "something else" in host.run("mount", "--path", "/mnt/y", rc=1)


# ---- dry runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, says",
    [
        (("reserve", "--pages", 64, "--node", 1), "would write: 64 > "),
        (("reserve", "--pages", 64, "--boot"), "vm.nr_hugepages = 128"),
        (("reserve", "--pages", 64, "--node", 0, "--boot"), "would write"),
        (("mount",), "would run: mount -t hugetlbfs -o pagesize=2M"),
        (("bind", "eth1"), "--bind=vfio-pci 0000:01:00.0"),
        (("unbind", "0000:05:00.0"), "--unbind 0000:05:00.0"),
        (("release",), "nr_hugepages"),
        (("with", "--pages", 64, "--", "touch", "x"), "would run: touch x"),
    ],
)
def test_dry_run_says_what_and_changes_nothing(nic, args, says):
    nic.add_nic("0000:05:00.0", driver="vfio-pci")
    nic.run("reserve", "--pages", 8, "--node", 0)
    before = nic.snapshot()
    assert says in nic.run(args[0], "--dry-run", *args[1:])
    after = nic.snapshot()
    assert after == before
