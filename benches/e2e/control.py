#!/usr/bin/env python3
"""What control can do: many forwarding entries installed, entries changed under load, ports added.

  control.py                       everything
  control.py --only churn --changes 20000 --load 0.5
  control.py --only install --entries 100000 --switch weft

Results: benches/results/control-*. docs/performance.md tells how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import churn
import install
import machine
import newport
from switches import Failed, program

HERE = Path(__file__).resolve().parent
PARTS = ("install", "churn", "newport")


def arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words, default=list(PARTS), help="of " + ", ".join(PARTS))
    parser.add_argument("--entries", type=numbers, default=[100_000, 1_000_000], help="install: how many")
    parser.add_argument("--switch", type=words, default=["weft", "ovs"], help="install: of weft, ovs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flows", type=int, default=10_000, help="churn: destination MAC addresses")
    parser.add_argument("--load", type=float, default=0.8, help="churn: share of the highest rate")
    parser.add_argument("--changes", type=int, default=10_000, help="churn: changes a second")
    parser.add_argument("--seconds", type=float, default=3.0, help="churn: seconds of counting")
    parser.add_argument("--core", type=int, default=0, help="core of the switch's worker")
    parser.add_argument("--generator-core", type=int, default=1, help="core of the generator and of everything else")
    parser.add_argument("--no-priority", action="store_true", help="do not go before other sessions in the scheduler")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    args = parser.parse_args()
    for given, known in (args.only, PARTS), (args.switch, ("weft", "ovs")):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    if args.core == args.generator_core:
        parser.error("the switch and the generator need a core each")
    return args


def installs(args: argparse.Namespace, base: Path) -> list[dict[str, Any]]:
    results = []
    for number in range(args.rounds):
        for entries in args.entries:
            for name in args.switch:
                folder = base / f"{name}-{entries}-{number}"
                folder.mkdir()
                one = {"weft": install.weft, "ovs": install.ovs}[name]
                results.append(one(entries, folder, (args.core, args.generator_core)) | {"round": number})
    return results


def main() -> int:
    args = arguments()
    for name in ("weft-gen", "weftd", "weftctl"):
        program(name)
    if not args.no_priority:
        machine.in_a_session_of_its_own()
        if problem := machine.prefer_this_session():
            print(problem, file=sys.stderr)
    # Whoever started us may have narrowed it.
    os.sched_setaffinity(0, {args.core, args.generator_core})
    cores = (args.core, args.generator_core)
    base = Path(tempfile.mkdtemp(prefix="weft-bench."))

    def churns() -> list[dict[str, Any]]:
        return churn.measure(args.flows, base, cores, args.seconds, args.load, args.changes, args.rounds)

    def newports() -> list[dict[str, Any]]:
        times = 5 * args.rounds
        return [r for n in (0, max(args.entries)) for r in newport.measure(n, base / f"port-{n}", cores, times)]

    parts: dict[str, tuple[Callable[[], list[dict[str, Any]]], Callable[[Any], str]]] = {
        "install": (lambda: installs(args, base), install.text),
        "churn": (churns, churn.text),
        "newport": (newports, newport.text),
    }
    described = machine.describe()
    results: dict[str, Any] = {}
    texts = [", ".join(f"{k}: {v}" for k, v in described.items())]
    failures = 0
    try:
        for part in args.only:
            measure, text = parts[part]
            try:
                results[part] = measure()
            except Failed as e:
                failures += 1
                print(f"{part} FAILED: {e}", flush=True)
                continue
            texts.append(f"{part}\n{text(results[part])}")
            print(f"{texts[-1]}\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted: only what was finished is written", file=sys.stderr)
        failures += 1
    finally:
        shutil.rmtree(base, ignore_errors=True)
    stem = args.out / f"control-{time.strftime('%Y%m%d-%H%M%S')}"
    args.out.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in vars(args).items()}
    stem.with_suffix(".json").write_text(json.dumps({"machine": described, "settings": settings, "results": results}, indent=1) + "\n")
    stem.with_suffix(".txt").write_text("\n\n".join(texts) + "\n")
    print(f"written to {stem}.txt and .json")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
