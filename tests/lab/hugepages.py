"""Hugepages: take what is missing at run time, give it back at the end."""

from __future__ import annotations

from pathlib import Path

from .proc import Lab, LabError

_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_COMPACT = Path("/proc/sys/vm/compact_memory")


def _read(name: str) -> int:
    return int((_POOL / name).read_text())


def free() -> int:
    """2 MB pages that nobody uses or has reserved."""
    return _read("free_hugepages") - _read("resv_hugepages")


def total() -> int:
    return _read("nr_hugepages")


def memory_available_mb() -> int:
    """Memory the kernel could give away, in MB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise LabError("/proc/meminfo shows no MemAvailable")


def ensure(lab: Lab, pages: int) -> None:
    """Makes sure that `pages` 2 MB hugepages are free; what had to be added is released when `lab` closes."""
    if not _POOL.exists():
        raise LabError("this kernel offers no 2 MB hugepages (/sys/kernel/mm/hugepages/hugepages-2048kB is missing)")
    missing = pages - free()
    if missing <= 0:
        return
    before = total()
    lab.defer("hugepages", lambda: (_POOL / "nr_hugepages").write_text(str(before)))
    for attempt in range(3):
        if attempt:
            _COMPACT.write_text("1")  # memory may be there, only in pieces
        (_POOL / "nr_hugepages").write_text(str(before + missing))
        if free() >= pages:
            return
    raise LabError(
        f"only {free()} of {pages} hugepages of 2 MB could be had, {memory_available_mb()} MB of memory are available: "
        "stop what uses memory, or reserve them at boot (kernel option hugepages=N)"
    )
