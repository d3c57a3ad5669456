#!/usr/bin/env python3
"""End-to-end benchmark: weftd beside Open vSwitch and dpdk-testpmd between the same ports, one core each, interleaved.

  bench.py                 everything, 5 rounds
  bench.py --quick         few cases and rounds, about four minutes
  bench.py --case encap --tunnel vxlan --flows 1,10000 --rounds 3
  bench.py --case l2 --size 64,imix,1464 --virtio vector,mergeable,packed
  bench.py --flows 1,100,1000,10000,100000,1000000 --tunnel vxlan       a plot of rate against flows
  bench.py --latency --case encap --tunnel vxlan --flows 1000           at 1%, 50% and 90% of each one's own rate

Results: benches/results/. docs/performance.md tells how to read them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import machine
import output
import report
from cases import VIRTIO, Case, cases
from generator import Generator
from openvswitch import OpenVSwitch
from switches import Failed, Switch, Testpmd, Weft, program

HERE = Path(__file__).resolve().parent
SWITCHES: dict[str, type[Switch]] = {"weft": Weft, "ovs": OpenVSwitch, "testpmd": Testpmd}
# Where latency is measured: shares of the rate of the run right before.
LOADS = (0.01, 0.5, 0.9)

def measure(name: str, case: Case, args: argparse.Namespace, base: Path, rate: float | None = None) -> report.Run:
    """One run: start, warm up, distance, traffic, distance, stop. With a rate (frames a second) latency is measured."""
    folder = Path(tempfile.mkdtemp(dir=base))
    switch = SWITCHES[name](case, folder, args.core, args.generator_core)
    cores = (args.core, args.generator_core)
    generator = None
    try:
        switch.start()
        generator = Generator(switch, args.warm, args.seconds, rate)
        generator.warm()
        switch.mark()
        # Both look for the cores' place while the switch polls: the fastest of many round trips is not disturbed by that.
        before = machine.core_distance(program("core-distance"), *cores)
        pid = switch.proc.pid
        threads, steal = machine.threads_on(pid, args.core), sum(map(machine.hypervisor_steal, cores))
        run = generator.count()
        run["worker_stolen"] = machine.stolen(threads, machine.threads_on(pid, args.core))
        run["steal_ticks"] = sum(map(machine.hypervisor_steal, cores)) - steal
        after = machine.core_distance(program("core-distance"), *cores)
        run |= switch.finish()
    finally:
        if generator:
            generator.stop()
        switch.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return run | {"distance_ns": [before, after]}


def arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="VXLAN with 1 and 10,000 flows, 2 rounds")
    parser.add_argument("--case", type=words, default=["encap", "decap", "l2"], help="of encap, decap, l2")
    parser.add_argument("--tunnel", type=words, help="of vxlan, geneve")
    parser.add_argument("--flows", type=numbers, help="numbers of destination MAC addresses")
    parser.add_argument("--size", type=words, default=["64"],
                        help="inner frames in bytes, without FCS; imix: 64, 570 and 1464 in 7:4:1")
    parser.add_argument("--virtio", type=words, default=["vector"], help="the VMs' rings, of " + ", ".join(VIRTIO))
    parser.add_argument("--latency", action="store_true",
                        help="after each run measure latency at 1%%, 50%% and 90%% of that run's rate")
    parser.add_argument("--switch", type=words, default=list(SWITCHES), help="of " + ", ".join(SWITCHES))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--warm", type=float, default=0.5, help="seconds of traffic before counting")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of counting")
    parser.add_argument("--core", type=int, default=0, help="core of the switch's worker")
    parser.add_argument("--generator-core", type=int, default=1, help="core of the generator and of everything else")
    parser.add_argument("--no-priority", action="store_true", help="do not go before other sessions in the scheduler")
    parser.add_argument("--max-stolen", type=float, default=0.03, help="share of the time that others may take a core")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    args = parser.parse_args()
    args.tunnel = args.tunnel or (["vxlan"] if args.quick else ["vxlan", "geneve"])
    args.flows = args.flows or ([1, 10000] if args.quick else [1, 1000, 10000])
    args.rounds = args.rounds or (2 if args.quick else 5)
    for given, known in (args.case, ["encap", "decap", "l2"]), (args.tunnel, ["vxlan", "geneve"]), (args.switch, SWITCHES), (args.virtio, VIRTIO):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    for size in args.size:
        if size != "imix" and not (size.isdecimal() and 64 <= int(size) <= 1464):
            parser.error(f"--size {size}: give 64 to 1464, or imix")
    if args.core == args.generator_core:
        parser.error("the switch and the generator need a core each")
    return args


def show(run: report.Run) -> str:
    cycles = run["cycles_per_packet"]
    text = f"{run['switch']:<8} {run['name']:<32} {run['rx_pps'] / 1e6:6.2f} Mpps  "
    if run["load"] is None:
        text += f"{'-' if cycles is None else format(cycles, '.0f'):>5} cycles  idle {run['idle']:4.0%}  "
    else:
        text += f"at {run['load']:.0%}: " + " ".join(f"{k} {v:.1f}" for k, v in run["latency_us"].items() if k != "frames") + " us  "
    return (text + f"lost {run['lost']}/{run['sent']}  stolen {run['worker_stolen']:.1%}/{run['stolen']:.1%}  "
            f"{run['distance_ns'][0]:.0f}/{run['distance_ns'][1]:.0f} ns  {run['why_not']}")


class Bench:
    """Runs what is to be run and keeps the results."""

    def __init__(self, args: argparse.Namespace, base: Path) -> None:
        self.args, self.base = args, base
        self.runs: list[report.Run] = []
        self.failures = 0

    def run(self) -> None:
        # Round by round over everything, not case by case: what changes with time then hits all alike.
        for number in range(self.args.rounds):
            for case in cases(self.args.case, self.args.tunnel, self.args.flows, self.args.size, self.args.virtio):
                for name in self.args.switch:
                    full = self._one(name, case, number)
                    for load in LOADS if full and self.args.latency else []:
                        self._one(name, case, number, load, full)

    def _one(self, name: str, case: Case, number: int, load: float | None = None, full: report.Run | None = None) -> report.Run | None:
        """One run; with a load, at this share of the rate of another one."""
        try:
            run = measure(name, case, self.args, self.base, full["rx_pps"] * load if full and load else None)
        except Failed as e:
            self.failures += 1
            print(f"{name:<8} {case!s:<32} FAILED: {e}", flush=True)
            return None
        run |= {"switch": name, "case": case.kind, "tunnel": case.tunnel, "flows": case.flows, "size": case.size,
                "virtio": case.virtio, "load": load, "round": number, "name": str(case), "when": time.strftime("%H:%M:%S")}
        run["why_not"] = report.judge(run, self.args.max_stolen) or (report.judge_load(run, full) if full else "")
        self.runs.append(run)
        print(show(run), flush=True)
        return run


def main() -> int:
    args = arguments()
    for name in ("weft-gen", "core-distance", "weftd", "weftctl"):
        program(name)
    if not args.no_priority:
        machine.in_a_session_of_its_own()
        if problem := machine.prefer_this_session():
            print(problem, file=sys.stderr)
    # Whoever started us may have narrowed it.
    os.sched_setaffinity(0, {args.core, args.generator_core})
    base = Path(tempfile.mkdtemp(prefix="weft-bench."))
    stem = time.strftime("%Y%m%d-%H%M%S")
    described = machine.describe()
    settings = {k: str(v) for k, v in vars(args).items()}
    bench = Bench(args, base)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("interrupted: the table has what was measured so far", file=sys.stderr)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if bench.runs:
        text, files = output.write(args.out, stem, described, settings, bench.runs)
        print(f"\n{text}\nwritten to {args.out}: {', '.join(files)}")
    return 1 if bench.failures or not bench.runs else 0


if __name__ == "__main__":
    sys.exit(main())
