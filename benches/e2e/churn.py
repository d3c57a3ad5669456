"""What changes of the forwarding entries cost traffic: frames lost and the rate, while they are made and while they are
not, at a share of the highest rate.

Of ten changes six move an address that frames are sent to, to the other VTEP; two add another address, two remove one.
Each is a batch of its own on one stream (weftctl fdb apply - --batch 1).
"""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
from cases import Case
from changing import VTEPS, Changing, added
from switches import Failed, program

Result = dict[str, Any]
# What a port did not take; every other reason is the switch's own.
REFUSED = ("tx-queue-full", "handoff-full", "port-not-ready")
VM = "queue_size=1024,mrg_rxbuf=0,in_order=1,vectorized=1"
# Frames a second that no port takes.
UNREACHABLE = 50e6
# Changes are written so many times a second, some at a time.
TICKS = 500


def changes(case: Case) -> Iterator[str]:
    """Lines without end. The addresses lead to the first VTEP at the beginning."""
    macs = list(case.macs())
    moved = extra = 0
    while True:
        for _ in range(2):
            for _ in range(3):
                turn, flow = divmod(moved, len(macs))
                yield f"add bench {macs[flow]} vtep {VTEPS[1 - turn % 2]}\n"
                moved += 1
            yield f"add bench 02:30:00:00:{extra >> 8 & 255:02x}:{extra & 255:02x} vtep {VTEPS[0]}\n"
            # What was added a while ago goes again.
            gone = extra - 1000
            yield f"del bench 02:30:00:00:{gone >> 8 & 255:02x}:{gone & 255:02x}\n"
            extra += 1


class Driver:
    """Writes changes at a rate until it is stopped."""

    def __init__(self, switch: Changing, rate: int) -> None:
        self.rate, self.written, self.stopping = rate, 0, threading.Event()
        self.lines = changes(switch.case)
        self.ctl = switch.stream()
        self.thread = threading.Thread(target=self._run)
        self.begin = time.monotonic()
        self.thread.start()

    def _run(self) -> None:
        assert self.ctl.stdin
        while not self.stopping.wait(1 / TICKS):
            due = int((time.monotonic() - self.begin) * self.rate) - self.written
            # After a pause it catches up, but not all at once.
            due = min(due, 5 * self.rate // TICKS)
            try:
                self.ctl.stdin.write("".join(next(self.lines) for _ in range(due)).encode())
            except BrokenPipeError:
                return
            self.written += due

    def stop(self) -> dict[str, Any]:
        """Waits until weftd has answered all; what was done, and how many a second."""
        self.stopping.set()
        self.thread.join()
        assert self.ctl.stdin and self.ctl.stdout
        self.ctl.stdin.close()
        out = self.ctl.stdout.read()
        if self.ctl.wait(30):
            raise Failed(f"weftctl fdb apply: {out.decode()}")
        done = dict(json.loads(out))
        done["per_second"] = done["batches"] / (time.monotonic() - self.begin)
        return done


class Generator:
    """weft-gen: first `warm`, then `count`."""

    def __init__(self, switch: Changing, seconds: float, rate: float) -> None:
        self.switch, self.seconds = switch, seconds
        vm = f"net_virtio_user0,path={switch.socket('vm0')},server=1,queues=1,mac=02:00:00:00:00:01,{VM}"
        wire = f"net_memif0,role=client,socket={switch.socket('wire')},socket-abstract=no,id=0,rsize=10,zero-copy=yes"
        argv = [str(program("weft-gen")), "--core", str(switch.control_core), "--tx", vm, "--rx", wire, "--expect", switch.expect(),
                "--flows", str(switch.case.flows), "--warm", "0.5", "--seconds", str(seconds), "--gate",
                "--latency", "--rate", f"{rate:.0f}"]
        self.errors = (switch.folder / "gen.log").open("w+")
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0)

    def _line(self, beginning: str, seconds: float) -> str:
        assert self.proc.stdout
        end = time.monotonic() + seconds
        while select.select([self.proc.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            line = self.proc.stdout.readline().decode()
            if line.startswith(beginning):
                return line
            if not line:
                break
        self.errors.seek(0)
        raise Failed(f"weft-gen: {self.errors.read().strip() or 'no answer'}\n{self.switch.tail()}")

    def warm(self) -> None:
        self._line("warm", 60)

    def count(self) -> dict[str, Any]:
        assert self.proc.stdin
        self.proc.stdin.write(b"\n")
        result = self._line("{", 30 + self.seconds)
        self.proc.wait(20)
        return dict(json.loads(result))

    def stop(self) -> None:
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(10)
        self.errors.close()


def run(case: Case, folder: Path, cores: tuple[int, int], seconds: float, rate: float, per_second: int) -> Result:
    """One run: at a rate in frames a second, with so many changes a second."""
    folder.mkdir()
    switch = Changing(case, folder, *cores)
    generator = driver = None
    try:
        switch.start()
        entries = folder / "entries"
        entries.write_text(added(case.macs()))
        switch.apply(entries)
        generator = Generator(switch, seconds, rate)
        generator.warm()
        driver = Driver(switch, per_second) if per_second else None
        time.sleep(0.3)
        stats = switch._stats()
        pid = switch.proc.pid
        distance = [machine.core_distance(program("core-distance"), *cores)]
        threads = machine.threads_on(pid, cores[0])
        result = generator.count()
        result["worker_stolen"] = machine.stolen(threads, machine.threads_on(pid, cores[0]))
        result["distance_ns"] = [*distance, machine.core_distance(program("core-distance"), *cores)]
        result["changes"] = driver.stop() if driver else {"per_second": 0.0}
        driver = None
        after = switch._stats()
        drops = {k: n - stats["drops"].get(k, 0) for k, n in after["drops"].items() if n != stats["drops"].get(k, 0)}
        result["refused"] = sum(drops.get(k, 0) for k in REFUSED)
        result["dropped"] = {k: n for k, n in drops.items() if k not in REFUSED}
        result["displacements"] = after["fdb"]["displacements"] - stats["fdb"]["displacements"]
    finally:
        if driver:
            driver.ctl.kill()
            driver.stopping.set()
        if generator:
            generator.stop()
        switch.stop()
    result["lost"] = result["sent"] - result["received"]
    return result


def measure(flows: int, folder: Path, cores: tuple[int, int], seconds: float, load: float, per_second: int, rounds: int) -> list[Result]:
    """The highest rate first; then rounds with and without changes, at that share of it."""
    case = Case("encap", "vxlan", flows)
    # By the clock as well: sending in small bursts has a limit of its own.
    full = run(case, folder / "full", cores, seconds, UNREACHABLE, 0)
    results = [full | {"what": "highest rate", "rate": None}]
    rate = full["rx_pps"] * load
    for number in range(rounds):
        for what, changing in (("no changes", 0), ("changes", per_second)):
            result = run(case, folder / f"{number}-{changing}", cores, seconds, rate, changing)
            results.append(result | {"what": what, "rate": rate})
    return results


def text(results: list[Result]) -> str:
    lines = [f"{'':<13} {'changes/s':>10} {'sent/s':>12} {'of highest':>10} {'arrived/s':>12} {'lost':>8} {'refused':>8} {'dropped':>8} {'p50 us':>8} {'p99 us':>8} "
             f"{'max us':>8} {'stolen':>11} {'ns':>9}"]
    for r in results:
        latency = r.get("latency_us") or {}
        times = [format(latency[k], ".1f") if k in latency else "-" for k in ("p50", "p99", "max")]
        lines.append(f"{r['what']:<13} {r['changes']['per_second']:>10,.0f} {r['tx_pps']:>12,.0f} {r['tx_pps'] / results[0]['tx_pps']:>10.0%} {r['rx_pps']:>12,.0f} {r['lost']:>8,} {r['refused']:>8,} "
                     f"{sum(r['dropped'].values()):>8,} {times[0]:>8} {times[1]:>8} {times[2]:>8} {r['worker_stolen']:>5.1%}/{r['stolen']:>5.1%} "
                     f"{r['distance_ns'][0]:>4.0f}/{r['distance_ns'][1]:.0f}")
    lines.append("lost: sent and never arrived; refused: what ports did not take, dropped: all else that the switch dropped. "
                 "ns: a cache line's round trip between the cores, before and after")
    rates = {what: [r["rx_pps"] for r in results if r["what"] == what] for what in ("no changes", "changes")}
    if all(rates.values()):
        ratio = statistics.median(rates["changes"]) / statistics.median(rates["no changes"])
        lines.append(f"arrived with changes / without: {ratio:.3f}")
    return "\n".join(lines)
