"""A made-up host for weft-host: a tree that looks like /sys and /proc."""

import os
import pathlib
import subprocess


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


def driver(host, address="0000:01:00.0"):
    link = host.root / f"sys/bus/pci/devices/{address}/driver"
    return link.readlink().name if link.is_symlink() else None
