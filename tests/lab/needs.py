"""What a host must have before anything can run here; standard library only, so that it can say what is missing."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# What is run -> Debian package.
PROGRAMS = {
    "ip": "iproute2", "ethtool": "ethtool", "ping": "iputils-ping", "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static", "dpdk-testpmd": "dpdk-dev", "tshark": "tshark", "iperf3": "iperf3",
}


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and the way on."""

    what: str
    way_on: str


def memory_available_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _distribution() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return "an unknown system"
    values = dict(line.partition("=")[::2] for line in lines)
    return values.get("PRETTY_NAME", "an unknown system").strip('"')


def missing(*, hugepages: int, other_memory_mb: int, guests: bool = True) -> list[Missing]:
    """Everything that keeps a run with so many 2 MB pages and so much other memory from working."""
    found: list[Missing] = []
    if os.geteuid() != 0:
        found.append(Missing("root rights (network namespaces, hugepages)", "run it as root: sudo make demo"))
    packages = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if importlib.util.find_spec("scapy") is None:
        packages.append("python3-scapy")
    if guests and not any(Path(f"/lib/modules/{Path(k).name.removeprefix('vmlinuz-')}").is_dir()
                          for k in glob.glob("/boot/vmlinuz-*-amd64")):
        packages.append("linux-image-amd64")
    if packages:
        if shutil.which("apt-get"):
            way_on = "apt-get install " + " ".join(packages)
        else:
            way_on = (f"this is {_distribution()}, without apt: install what holds the same programs, "
                      "or use Debian 12, where `make demo` installs them itself")
        found.append(Missing("packages: " + ", ".join(packages), way_on))
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
    if not pool.is_dir():
        found.append(Missing("2 MB hugepages", "boot a kernel with CONFIG_HUGETLBFS on an x86-64 machine"))
        return found
    free = int((pool / "free_hugepages").read_text()) - int((pool / "resv_hugepages").read_text())
    need = other_memory_mb + max(0, hugepages - free) * 2
    if (available := memory_available_mb()) < need:
        found.append(Missing(f"memory: {need} MB are needed, {available} MB are available",
                             "stop what uses memory, or use a larger machine"))
    return found
