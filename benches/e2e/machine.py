"""What the machine does to a measurement: cores that move, cores that are taken away, and what the machine is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


def core_distance(program: Path, a: int, b: int) -> float:
    """Round trip of a cache line between two cores, in nanoseconds."""
    done = subprocess.run([program, str(a), str(b)], capture_output=True, text=True, timeout=60, check=True)
    return float(done.stdout)


def same_place(one: float, other: float) -> bool:
    """Whether two core distances are of one regime. They cluster around 40, 70 and 390 ns on the machines seen."""
    return max(one, other) <= 1.5 * min(one, other)


@dataclass(frozen=True)
class CpuTime:
    """A thread's time on its core, and its time waiting for it, in nanoseconds."""

    ran: int
    waited: int


def threads_on(pid: int, core: int) -> dict[int, CpuTime]:
    """The threads of a process that are bound to one core alone: its workers."""
    found: dict[int, CpuTime] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if os.sched_getaffinity(int(task.name)) == {core}:
                ran, waited = (task / "schedstat").read_text().split()[:2]
                found[int(task.name)] = CpuTime(int(ran), int(waited))
        except (OSError, ValueError):
            continue  # it has just ended
    return found


def stolen(before: dict[int, CpuTime], after: dict[int, CpuTime]) -> float:
    """Share of the time that the busiest of the threads waited for its core; 1 if there is none that ran."""
    best = CpuTime(0, 1)
    for thread, end in after.items():
        start = before.get(thread, CpuTime(0, 0))
        spent = CpuTime(end.ran - start.ran, end.waited - start.waited)
        if spent.ran > best.ran:
            best = spent
    return best.waited / (best.ran + best.waited)


def hypervisor_steal(core: int) -> int:
    """Ticks of 10 ms that the hypervisor took from a core so far."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}" and len(words) > 8:
            return int(words[8])
    return 0


def in_a_session_of_its_own() -> None:
    """Goes on in a child with a session of its own; the parent waits for it, passes signals on, and exits with it."""
    child = os.fork()
    if child == 0:
        os.setsid()
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: os.kill(child, signal.SIGINT))
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def prefer_this_session() -> str:
    """Puts this session before all others in the scheduler. `nice` alone does not: with autogroups it only counts
    within a session. Returns what keeps it from being done, if anything does."""
    try:
        Path("/proc/self/autogroup").write_text("-20")
    except OSError as error:
        return f"no scheduling priority ({error.strerror}): other work on these cores costs more runs"
    return ""


def describe() -> dict[str, str]:
    """The machine in a few words, for the report."""
    cpu = Path("/proc/cpuinfo").read_text()

    def field(name: str) -> str:
        found = re.search(rf"^{name}\s*: (.*)$", cpu, re.M)
        return found[1].strip() if found else "?"

    meminfo = Path("/proc/meminfo").read_text()
    total = re.search(r"MemTotal:\s+(\d+)", meminfo)
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True, check=False)
    return {
        "cpu": f"{field('model name')} (family {field('cpu family')}, model {field('model')})",
        "cores": str(os.cpu_count()),
        "virtual": "yes" if "hypervisor" in field("flags").split() else "no",
        "memory": f"{int(total[1]) // 1048576} GiB" if total else "?",
        "kernel": os.uname().release,
        "dpdk": dpdk.stdout.strip() or "?",
    }
