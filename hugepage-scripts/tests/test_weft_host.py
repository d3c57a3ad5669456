"""weft-host against made-up hosts (trees that look like /sys and /proc), and once against this one."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "weft-host"
KB_2M, KB_1G = 2048, 1048576

ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


class Host:
    """A made-up host. Its counters are plain files: the "kernel" grants every page asked for."""

    def __init__(self, root: pathlib.Path, nodes=2, memory_mb=65536):
        self.root = root
        self.state = root / "run/weft-host.state"
        (root / "run").mkdir(parents=True)
        for node in range(nodes):
            for kb in (KB_2M, KB_1G):
                d = self.pages_dir(node, kb)
                d.mkdir(parents=True)
                for name in ("nr", "free", "surplus"):
                    (d / f"{name}_hugepages").write_text("0\n")
            self.write(
                f"sys/devices/system/node/node{node}/meminfo",
                f"Node {node} MemTotal: {memory_mb * 1024} kB\nNode {node} MemFree: {memory_mb * 1024} kB\n"
                f"Node {node} FilePages: 0 kB\nNode {node} Shmem: 0 kB\n",
            )
        self.write("sys/devices/system/cpu/online", "0-7\n")
        self.write("sys/devices/system/cpu/isolated", "\n")
        self.write("proc/meminfo", f"MemAvailable: {memory_mb * 1024} kB\nHugepagesize: 2048 kB\n")
        self.write("proc/cpuinfo", "flags\t\t: fpu sse4_2 avx vmx\n")
        self.write("proc/mounts", "proc /proc proc rw 0 0\n")
        self.write("proc/net/route", ROUTE_HEAD)
        self.write("proc/sys/vm/compact_memory", "")
        # The stand-in does what the real one does to sysfs, and keeps a log.
        self.log = root / "devbind.log"
        self.devbind = root / "dpdk-devbind.py"
        self.devbind.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {self.log}\n'
            'for a; do case $a in --bind=*) drv=${a#--bind=};; --unbind) drv=;; --force) ;; *) addr=$a;; esac; done\n'
            f"cd {root}/sys/bus/pci\n"
            "rm -f devices/$addr/driver\n"
            '[ -z "$drv" ] || { mkdir -p drivers/$drv; ln -s ../../drivers/$drv devices/$addr/driver; }\n'
        )
        self.devbind.chmod(0o755)

    def write(self, path, text):
        f = self.root / path
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(text)

    def pages_dir(self, node, kb):
        return self.root / f"sys/devices/system/node/node{node}/hugepages/hugepages-{kb}kB"

    def nr(self, node, kb=KB_2M):
        return int((self.pages_dir(node, kb) / "nr_hugepages").read_text())

    def set_pages(self, node, nr, free=None, kb=KB_2M):
        (self.pages_dir(node, kb) / "nr_hugepages").write_text(f"{nr}\n")
        (self.pages_dir(node, kb) / "free_hugepages").write_text(f"{nr if free is None else free}\n")

    def add_nic(self, address, interface=None, driver="e1000e", group=None, below="", pci_class="0x020000"):
        dev = self.root / f"sys/bus/pci/devices/{address}"
        dev.mkdir(parents=True)
        (dev / "class").write_text(pci_class + "\n")
        (dev / "numa_node").write_text("0\n")
        if driver:
            (self.root / f"sys/bus/pci/drivers/{driver}").mkdir(parents=True, exist_ok=True)
            (dev / "driver").symlink_to(f"../../drivers/{driver}")
        if group is not None:
            g = self.root / f"sys/kernel/iommu_groups/{group}"
            (g / "devices").mkdir(parents=True, exist_ok=True)
            (g / "devices" / address).symlink_to(dev)
            (dev / "iommu_group").symlink_to(g)
        if interface:
            (dev / below).mkdir(exist_ok=True)
            net = self.root / f"sys/class/net/{interface}"
            net.mkdir(parents=True)
            (net / "device").symlink_to(dev / below)
        return dev

    def load_vfio(self):
        (self.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True, exist_ok=True)

    def default_route(self, interface):
        self.write(
            "proc/net/route",
            ROUTE_HEAD
            + f"{interface}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
            + f"{interface}\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        )

    def env(self, **more):
        return {
            **os.environ,
            "WEFT_HOST_ROOT": str(self.root),
            "WEFT_HOST_STATE": str(self.state),
            "WEFT_HOST_DEVBIND": str(self.devbind),
            "WEFT_HOST_MEMLOCK": "unlimited",
            **more,
        }

    def run(self, *args, rc=0, **env):
        p = subprocess.run([SCRIPT, *map(str, args)], env=self.env(**env), capture_output=True, text=True, timeout=60)
        assert p.returncode == rc, f"exit {p.returncode}, wanted {rc}\n{p.stdout}\n{p.stderr}"
        return p.stdout + p.stderr

    def snapshot(self):
        """Every file, link and its contents: what a dry run must leave as it was."""
        return {
            str(p.relative_to(self.root)): os.readlink(p) if p.is_symlink() else p.read_bytes()
            for p in self.root.rglob("*")
            if p.is_symlink() or p.is_file()
        }


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "host")


# ---- reserve and release ------------------------------------------------------------------------


def test_reserve_every_node_and_release(host):
    host.set_pages(0, 10)
    host.run("reserve", "--memory", 1024)
    assert (host.nr(0), host.nr(1)) == (512, 512)
    host.run("release")
    assert (host.nr(0), host.nr(1)) == (10, 0)
    assert not host.state.exists()


def test_memory_is_rounded_up_to_whole_pages(host):
    host.run("reserve", "--memory", 1025, "--node", 0)
    assert host.nr(0) == 513
    host.run("reserve", "--memory", 1025, "--node", 1, "--size", "1G")
    assert host.nr(1, KB_1G) == 2


def test_reserve_is_idempotent(host):
    host.run("reserve", "--pages", 100, "--node", 1)
    state = host.state.read_text()
    assert "enough" in host.run("reserve", "--pages", 100, "--node", 1)
    assert (host.nr(0), host.nr(1)) == (0, 100)
    assert host.state.read_text() == state


def test_reserve_never_lowers(host):
    host.set_pages(0, 3000)
    host.run("reserve", "--pages", 10, "--node", 0)
    assert host.nr(0) == 3000
    host.run("release")
    assert host.nr(0) == 3000


def test_free_counts_only_unused_pages(host):
    host.set_pages(0, 100, free=30)
    host.run("reserve", "--pages", 50, "--node", 0, "--free")
    assert host.nr(0) == 120


def test_several_reservations_unwind(host):
    host.set_pages(0, 5)
    for n in (10, 20, 40):
        host.run("reserve", "--pages", n, "--node", 0)
    assert host.nr(0) == 40
    host.run("release", "hugepages")
    assert host.nr(0) == 5


def test_release_keeps_what_others_added_meanwhile(host):
    host.run("reserve", "--pages", 100, "--node", 0)
    host.set_pages(0, 160)
    host.run("release")
    assert host.nr(0) == 60


@pytest.mark.parametrize("now, after", [(150, 100), (100, 100), (40, 40), (0, 0)])
def test_release_never_goes_below_what_was_there(host, now, after):
    host.set_pages(0, 100)
    host.run("reserve", "--pages", 200, "--node", 0)
    host.set_pages(0, now)  # somebody took pages away
    host.run("release")
    assert host.nr(0) == after


def test_a_short_kernel_gives_an_error_and_keeps_nothing(host):
    # A directory that swallows writes: /dev/null in place of the counter reads as nothing granted.
    host.set_pages(0, 0)
    nr = host.pages_dir(0, KB_2M) / "nr_hugepages"
    nr.unlink()
    nr.symlink_to("/dev/null")
    out = host.run("reserve", "--pages", 8, "--node", 0, rc=1)
    assert "the kernel found only" in out and "--boot" in out
    assert not host.state.exists()


def test_too_little_memory_is_refused_unless_forced(tmp_path):
    host = Host(tmp_path / "small", nodes=1, memory_mb=1024)
    out = host.run("reserve", "--memory", 600, rc=1)
    assert "1024 MB free" in out and "--force" in out
    assert host.nr(0) == 0
    host.run("reserve", "--memory", 600, "--force")
    assert host.nr(0) == 300


def test_without_1g_pages(host):
    import shutil

    shutil.rmtree(host.pages_dir(0, KB_1G))
    out = host.run("reserve", "--pages", 1, "--size", "1G", "--node", 0, rc=1)
    assert "no 1G hugepages" in out


def test_unknown_node(host):
    assert "no NUMA node 7" in host.run("reserve", "--pages", 1, "--node", 7, rc=1)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("frobnicate",),
        ("reserve",),
        ("reserve", "--pages"),
        ("reserve", "--pages", "-1"),
        ("reserve", "--pages", "1; true"),
        ("reserve", "--pages", "1", "--memory", "2"),
        ("reserve", "--pages", "1", "--size", "3M"),
        ("reserve", "--pages", "1", "extra"),
        ("reserve", "--pages", "1", "--noiommu"),
        ("release", "everything"),
        ("bind",),
        ("bind", "a", "b"),
        ("mount", "--path", "relative"),
        ("with", "--pages", "1"),
        ("check", "--memory", "x"),
    ],
)
def test_bad_usage_changes_nothing(host, args):
    before = host.snapshot()
    out = host.run(*args, rc=2)
    assert "Usage:" in out or "--help" in out
    assert host.snapshot() == before


def test_help(host):
    out = host.run("--help")
    for command in "check reserve mount bind unbind release status with".split():
        assert f"\n  {command} " in out
    assert host.run("reserve", "--help") == out


# ---- the next boot ------------------------------------------------------------------------------


def test_boot_all_nodes_is_a_sysctl(host):
    host.run("reserve", "--pages", 256, "--boot")
    f = host.root / "etc/sysctl.d/80-weft-hugepages.conf"
    assert f.read_text().splitlines()[-1] == "vm.nr_hugepages = 512"
    assert host.nr(0) == 0, "--boot changes nothing now"
    assert "already" in host.run("reserve", "--pages", 256, "--boot")
    host.run("release", "--boot")
    assert not f.exists()


def test_boot_per_node_is_a_tmpfile_line_each(host):
    f = host.root / "etc/tmpfiles.d/weft-hugepages.conf"
    host.run("reserve", "--pages", 256, "--node", 0, "--boot")
    host.run("reserve", "--pages", 128, "--node", 1, "--boot")
    host.run("reserve", "--pages", 300, "--node", 0, "--boot")
    lines = [x for x in f.read_text().splitlines() if not x.startswith("#")]
    path = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
    assert sorted(lines) == [f"w {path.format(0)} - - - - 300", f"w {path.format(1)} - - - - 128"]
    host.run("release", "--boot")
    assert not f.exists()


def test_boot_1g_is_a_hint_only(host):
    before = host.snapshot()
    out = host.run("reserve", "--pages", 4, "--size", "1G", "--boot")
    assert "hugepagesz=1G hugepages=0:4,1:4" in out
    assert host.snapshot() == before


def test_boot_leaves_a_strangers_file_alone(host):
    host.write("etc/sysctl.d/80-weft-hugepages.conf", "vm.nr_hugepages = 7\n")
    assert "somebody else" in host.run("reserve", "--pages", 1, "--boot", rc=1)
    assert "somebody else" in host.run("release", "--boot", rc=1)
    assert (host.root / "etc/sysctl.d/80-weft-hugepages.conf").read_text() == "vm.nr_hugepages = 7\n"


# ---- bind and unbind ----------------------------------------------------------------------------


@pytest.fixture
def nic(host):
    host.add_nic("0000:01:00.0", "eth1", group=5)
    host.load_vfio()
    return host


def driver(host, address="0000:01:00.0"):
    link = host.root / f"sys/bus/pci/devices/{address}/driver"
    return link.readlink().name if link.is_symlink() else None


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


# ---- check, status, mount -----------------------------------------------------------------------


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
    out = host.run("check", "--nic")
    assert "MISSING" not in out and "note" not in out
    assert "isolated cores 2-7 of 0-7" in out


def test_check_without_a_nic_only_notes_the_iommu(host):
    host.write("usr/lib/dpdk/pmds-23.0/librte_net_e1000.so.23", "")
    host.set_pages(0, 512)
    host.set_pages(1, 512)
    out = host.run("check")
    assert "note     an active IOMMU" in out and "Nothing that weftd needs is missing." in out


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


# ---- dry runs -----------------------------------------------------------------------------------


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


# ---- with ---------------------------------------------------------------------------------------


def test_with_gives_back_and_passes_the_exit_code(host):
    host.set_pages(0, 3)
    count = host.pages_dir(0, KB_2M) / "nr_hugepages"
    out = host.run("with", "--pages", 10, "--node", 0, "--", "sh", "-c", f"echo in=$(cat {count}); exit 7", rc=7)
    assert "in=10" in out
    assert host.nr(0) == 3
    assert not list((host.root / "run").glob("*.state"))


def test_with_asks_sudo_for_the_pages_only(host):
    sudo = host.root / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$2" >> {host.root}/sudo.log\nexec "$@"\n')
    sudo.chmod(0o755)
    host.run("with", "--memory", 20, "--node", 1, "--free", "--", "true", WEFT_HOST_SUDO=str(sudo))
    assert (host.root / "sudo.log").read_text() == "reserve\nrelease\n"
    assert host.nr(1) == 0


def test_with_keeps_an_earlier_reservation(host):
    host.run("reserve", "--pages", 6, "--node", 0)
    host.run("with", "--pages", 10, "--node", 0, "--", "true")
    assert host.nr(0) == 6
    host.run("release")
    assert host.nr(0) == 0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_with_gives_back_after_a_signal(host, sig):
    p = subprocess.Popen(
        [SCRIPT, "with", "--pages", "10", "--node", "0", "--", "sh", "-c", "echo ready; exec sleep 60"],
        env=host.env(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while "ready" not in p.stdout.readline():
        pass
    if sig == signal.SIGINT:
        os.killpg(p.pid, sig)  # as a terminal sends it: to the whole foreground group
    else:
        p.send_signal(sig)
    assert p.wait(20) == 128 + sig
    assert host.nr(0) == 0
    assert not list((host.root / "run").glob("*.state"))


def test_release_finds_what_a_killed_run_left(host):
    p = subprocess.Popen(
        [SCRIPT, "with", "--pages", "10", "--node", "0", "--", "sh", "-c", "echo $$; exec sleep 60"],
        env=host.env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    child = next(int(line) for line in p.stdout if line.strip().isdigit())
    assert host.run("release") and host.nr(0) == 10, "a live run keeps its pages"
    p.kill()
    p.wait()
    os.kill(child, signal.SIGKILL)
    assert "left behind" in host.run("release")
    assert host.nr(0) == 0


def test_pages_stay_for_a_later_reservation_that_counted_on_them(host):
    first, second = host.root / "run/first.state", host.root / "run/second.state"
    host.set_pages(0, 1)
    host.run("reserve", "--pages", 10, "--node", 0, "--state", first)
    host.run("reserve", "--pages", 30, "--node", 0, "--state", second)
    host.run("release", "--state", first)
    assert host.nr(0) == 30
    assert second.read_text() == "hugepages 0 2048 1 29\n"
    host.run("release", "--state", second)
    assert host.nr(0) == 1


def test_several_at_once_undo_everything(host):
    """Every `with` writes the shared counter under the lock, and they end in any order."""
    runs = [
        subprocess.Popen(
            [SCRIPT, "with", "--pages", str(n), "--node", "0", "--", "sleep", "0.2"],
            env=host.env(),
            stdout=subprocess.DEVNULL,
        )
        for n in (10, 20, 30, 40)
    ]
    assert [p.wait(60) for p in runs] == [0] * 4
    assert host.nr(0) == 0


def test_a_busy_lock_is_waited_for(host):
    with open(host.root / "run/weft-host.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        p = subprocess.Popen([SCRIPT, "reserve", "--pages", "4", "--node", "0"], env=host.env(), stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        assert p.poll() is None and host.nr(0) == 0
    assert p.wait(20) == 0
    assert host.nr(0) == 4


# ---- the machine these tests run on -------------------------------------------------------------

REAL = pathlib.Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB")


@pytest.mark.skipif(os.geteuid() != 0 or not REAL.exists(), reason="needs root and NUMA node 0 with 2M pages")
def test_reserve_and_release_for_real(tmp_path):
    """Two pages more and back. Others may use pages at the same time, so only differences count."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_HOST_")}
    state = tmp_path / "real.state"
    env["WEFT_HOST_LOCK"] = str(tmp_path / "lock")

    def total():
        return int((REAL / "nr_hugepages").read_text())

    before = total()
    run = lambda *a: subprocess.run([SCRIPT, *a, "--state", state], env=env, check=True, timeout=60)  # noqa: E731
    run("reserve", "--pages", str(before + 2), "--node", "0")
    try:
        assert total() == before + 2
        assert state.read_text() == f"hugepages 0 2048 {before} 2\n"
    finally:
        run("release")
    assert total() == before
    assert not state.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not REAL.exists(), reason="needs root and NUMA node 0 with 2M pages")
def test_mount_for_real(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_HOST_")}
    env["WEFT_HOST_LOCK"] = str(tmp_path / "lock")
    state, point = tmp_path / "real.state", tmp_path / "huge"

    def mounted():
        return f" {point} hugetlbfs " in pathlib.Path("/proc/mounts").read_text()

    run = lambda *a: subprocess.run([SCRIPT, *a, "--state", state], env=env, check=True, timeout=60)  # noqa: E731
    run("mount", "--path", point)
    try:
        assert mounted()
    finally:
        run("release")
    assert not mounted()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
