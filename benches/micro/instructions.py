#!/usr/bin/env python3
"""Instructions that the packet path executes for a packet, by stage: counted by callgrind, so the same in every run.

  instructions.py                              all cases, 64-byte frames, 1,000 destination MACs
  instructions.py --case decap-vxlan --top 25  one case, with the places in the source that cost most

Instructions are not time: a packet that waits for memory executes none. What they are good for is to see what a change of
the code does, to the instruction, on a machine that is busy with other things. Each case runs twice, and it is an error if
the two differ.

valgrind 3.19 has no AVX-512: the forwarding table takes its AVX2 lookup there, which executes more instructions than what
a processor with AVX-512 runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from callgrind import ROUND, Attribution, read

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CASES = ["encap-vxlan", "encap-geneve", "decap-vxlan", "decap-geneve", "l2"]
# In the order in which a packet meets them; others come behind.
STAGES = [ROUND, "admit", "decap", "lookup", "dispatch", "encap", "tx staging", "tx flush", "port"]
MEASURED = "weft_instructions::measured*"


def binary() -> Path:
    path = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "weft-instructions"
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there: run `make bench-instructions`, which builds it")
    return path.resolve()


def count(program: Path, case: str, args: argparse.Namespace, folder: Path) -> tuple[Attribution, int]:
    """One run under callgrind: who executed what, and the number of packets."""
    out = folder / f"{case}.out"
    argv = ["valgrind", "--tool=callgrind", "--collect-atstart=no", f"--toggle-collect={MEASURED}", "--dump-instr=yes",
            "--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={out}", program,
            "--case", case, "--bursts", str(args.bursts), "--flows", str(args.flows), "--size", str(args.size)]
    # Symbols are bound at start, or the first call of each would count the dynamic linker.
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"LD_BIND_NOW": "1"})
    if done.returncode:
        sys.exit(f"weft-instructions --case {case} under valgrind ended with {done.returncode}:\n{done.stderr}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Attribution(read(out), program), int(said["packets"])


def table(title: str, rows: list[str], columns: dict[str, dict[str, float]]) -> str:
    width = max(len(title), *map(len, rows))
    lines = [f"{title:<{width}}" + "".join(f"{name:>14}" for name in columns)]
    for row in rows:
        cells = [f"{column[row]:>14.1f}" if row in column else f"{'-':>14}" for column in columns.values()]
        lines.append(f"{row:<{width}}" + "".join(cells))
    lines.append(f"{'together':<{width}}" + "".join(f"{sum(column.values()):>14.1f}" for column in columns.values()))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="one of them only; may be given again")
    parser.add_argument("--bursts", type=int, default=200, help="bursts of 32 to count")
    parser.add_argument("--flows", type=int, default=1000, help="destination MAC addresses")
    parser.add_argument("--size", type=int, default=64, help="inner frame in bytes, without FCS")
    parser.add_argument("--top", type=int, default=0, help="also list so many places in the source for each case")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--once", action="store_true", help="do not run each case a second time")
    args = parser.parse_args()
    args.case = args.case or CASES
    return args


def main() -> int:
    args = arguments()
    program = binary()
    stages: dict[str, dict[str, float]] = {}
    kinds: dict[str, dict[str, float]] = {}
    places: dict[str, list[tuple[float, str]]] = {}
    totals: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="weft-instructions.") as folder:
        for case in args.case:
            totals[case] = []
            for _ in range(1 if args.once else 2):
                found, packets = count(program, case, args, Path(folder))
                totals[case].append(found.profile.total)
            stages[case] = {stage: n / packets for stage, n in found.stages.items()}
            kinds[case] = {kind: n / packets for kind, n in found.kinds.items()}
            places[case] = sorted(((n / packets, f"{stage:<11} {place}") for (stage, place), n in found.places.items()),
                                  reverse=True)
    print(f"Instructions per packet: {args.size}-byte frames, {args.flows:,} MAC addresses, {args.bursts} bursts of 32\n")
    names = {stage for column in stages.values() for stage in column}
    print(table("stage", [s for s in STAGES if s in names] + sorted(names - set(STAGES)), stages) + "\n")
    print(table("kind of work", sorted({k for column in kinds.values() for k in column}), kinds) + "\n")
    for case in args.case if args.top else []:
        print(f"{case}: the places that cost most")
        print("".join(f"{n:>8.1f}  {what}\n" for n, what in places[case][:args.top]))
    if args.json:
        args.json.write_text(json.dumps({"stages": stages, "kinds": kinds, "totals": totals}, indent=1) + "\n")
    if args.once:
        return 0
    differ = {case: runs for case, runs in totals.items() if len(set(runs)) > 1}
    for case, runs in differ.items():
        print(f"{case}: the two runs differ: {runs[0]:,} and {runs[1]:,} instructions", file=sys.stderr)
    if not differ:
        print("Each case ran twice: " + ", ".join(f"{case} {runs[0]:,}" for case, runs in totals.items())
              + " instructions, both times.")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
