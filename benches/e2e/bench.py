#!/usr/bin/env python3
"""End-to-end benchmark: weftd beside Open vSwitch and dpdk-testpmd between the same ports, one core each, interleaved.

  bench.py                 everything, 5 rounds
  bench.py --quick         few cases and rounds, about four minutes
  bench.py --case encap --tunnel vxlan --flows 1,10000 --rounds 3

Results: benches/results/. docs/performance.md tells how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
from cases import Case, cases
from openvswitch import OpenVSwitch
from switches import Failed, Switch, Testpmd, Weft, program

HERE = Path(__file__).resolve().parent
SWITCHES: dict[str, type[Switch]] = {"weft": Weft, "ovs": OpenVSwitch, "testpmd": Testpmd}
VIRTIO = "queue_size=1024,mrg_rxbuf=0,in_order=1,vectorized=1"
MEMIF = "rsize=10,zero-copy=yes"


def devices(switch: Switch) -> tuple[str, str]:
    """The generator's ends: sending, receiving."""
    def vm(n: int) -> str:
        return f"net_virtio_user{n},path={switch.socket(f'vm{n}')},server=1,queues=1,mac=02:00:00:00:00:{n + 1:02x},{VIRTIO}"

    wire = f"net_memif0,role=client,socket={switch.socket('wire')},socket-abstract=no,id=0,{MEMIF}"
    return {"encap": (vm(0), wire), "decap": (wire, vm(0)), "l2": (vm(0), vm(1))}[switch.case.kind]


def generate(switch: Switch, warm: float, seconds: float) -> report.Run:
    """Runs the generator against a started switch."""
    case = switch.case
    tx, rx = devices(switch)
    send = case.tunnel if case.kind == "decap" else "plain"
    argv = [program("weft-gen"), "--core", str(switch.control_core), "--tx", tx, "--rx", rx, "--send", send, "--expect", switch.expect(),
            "--rx-queues", str(switch.wire_queues if case.kind == "encap" else 1), "--flows", str(case.flows), "--size", str(case.size), "--warm", str(warm), "--seconds", str(seconds)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90 + warm + seconds, check=False)
    except subprocess.TimeoutExpired as e:
        raise Failed(f"weft-gen did not end:\n{switch.tail()}") from e
    if done.returncode:
        raise Failed(f"{done.stderr.strip()}\n{switch.tail()}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(name: str, case: Case, args: argparse.Namespace, base: Path) -> report.Run:
    """One run: start, distance, traffic, distance, stop."""
    folder = Path(tempfile.mkdtemp(dir=base))
    switch = SWITCHES[name](case, folder, args.core, args.generator_core)
    distance = program("core-distance")
    try:
        before = machine.core_distance(distance, args.core, args.generator_core)
        switch.start()
        switch.mark()
        pid, cores = switch.proc.pid, (args.core, args.generator_core)
        threads, steal = machine.threads_on(pid, args.core), sum(map(machine.hypervisor_steal, cores))
        run = generate(switch, args.warm, args.seconds)
        run["worker_stolen"] = machine.stolen(threads, machine.threads_on(pid, args.core))
        run["steal_ticks"] = sum(map(machine.hypervisor_steal, cores)) - steal
        run |= switch.finish()
        after = machine.core_distance(distance, args.core, args.generator_core)
    finally:
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
    parser.add_argument("--size", type=int, default=64, help="inner frame in bytes, without FCS")
    parser.add_argument("--switch", type=words, default=list(SWITCHES), help="of " + ", ".join(SWITCHES))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--warm", type=float, default=0.5, help="seconds of traffic before counting")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of counting")
    parser.add_argument("--core", type=int, default=0, help="core of the switch's worker")
    parser.add_argument("--generator-core", type=int, default=1, help="core of the generator and of everything else")
    parser.add_argument("--no-priority", action="store_true", help="do not go before other sessions in the scheduler")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    args = parser.parse_args()
    args.tunnel = args.tunnel or (["vxlan"] if args.quick else ["vxlan", "geneve"])
    args.flows = args.flows or ([1, 10000] if args.quick else [1, 1000, 10000])
    args.rounds = args.rounds or (2 if args.quick else 5)
    for given, known in (args.case, ["encap", "decap", "l2"]), (args.tunnel, ["vxlan", "geneve"]), (args.switch, SWITCHES):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    if args.core == args.generator_core:
        parser.error("the switch and the generator need a core each")
    return args


def show(run: report.Run) -> str:
    cycles = run["cycles_per_packet"]
    return (f"{run['switch']:<8} {run['name']:<32} {run['rx_pps'] / 1e6:6.2f} Mpps  "
            f"{'-' if cycles is None else format(cycles, '.0f'):>5} cycles  idle {run['idle']:4.0%}  "
            f"stolen {run['worker_stolen']:.1%}/{run['stolen']:.1%}  "
            f"{run['distance_ns'][0]:.0f}/{run['distance_ns'][1]:.0f} ns  {run['why_not']}")


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
    runs: list[report.Run] = []
    failures = 0
    base = Path(tempfile.mkdtemp(prefix="weft-bench."))
    stem = time.strftime("%Y%m%d-%H%M%S")
    described = machine.describe()
    settings = {k: str(v) for k, v in vars(args).items()}
    try:
        # Round by round over everything, not case by case: what changes with time then hits all alike.
        for number in range(args.rounds):
            for case in cases(args.case, args.tunnel, args.flows, args.size):
                for name in args.switch:
                    try:
                        run = measure(name, case, args, base)
                    except Failed as e:
                        failures += 1
                        print(f"{name:<8} {case!s:<32} FAILED: {e}", flush=True)
                        continue
                    run |= {"switch": name, "case": case.kind, "tunnel": case.tunnel, "flows": case.flows,
                            "size": case.size, "round": number, "name": str(case), "when": time.strftime("%H:%M:%S")}
                    run["why_not"] = report.judge(run)
                    runs.append(run)
                    print(show(run), flush=True)
    except KeyboardInterrupt:
        print("interrupted: the table has what was measured so far", file=sys.stderr)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if runs:
        print("\n" + report.write(args.out, stem, described, settings, runs, ["testpmd", "ovs"]))
        print(f"written to {args.out}/{stem}.txt, .tsv and .json")
    return 1 if failures or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
