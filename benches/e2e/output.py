"""Results as text, TSV, JSON and plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plot
from report import MIN_IDLE, PEERS, Row, Run, latencies, rates


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def ratio(row: Row, peer: str, which: str, form: str = ".2f") -> str:
    return number(row["ratios"].get(peer, {}).get(which), form)


Columns = list[tuple[str, Callable[[Row], str]]]
# The names of a case, then what was measured.
NAMES: Columns = [
    ("case", lambda r: r["case"]),
    ("tunnel", lambda r: "-" if r["case"] == "l2" else r["tunnel"]),
    ("size", lambda r: r["size"]),
    ("rings", lambda r: r["virtio"]),
    ("flows", lambda r: str(r["flows"])),
    ("near_ns", lambda r: str(r["distance_ns"])),
]
RATES: Columns = NAMES + [
    ("switch", lambda r: r["switch"]),
    ("runs", lambda r: str(r["runs"])),
    ("Mpps", lambda r: number(r["mpps"], ".2f")),
    ("min", lambda r: number(r["min"], ".2f")),
    ("max", lambda r: number(r["max"], ".2f")),
    ("Gbit/s", lambda r: number(r["gbps"], ".2f")),
    *((f"/{peer}", lambda r, peer=peer: ratio(r, peer, "median_of_pairs")) for peer in PEERS),
    *((f"pairs {peer}", lambda r, peer=peer: ratio(r, peer, "pairs", "d")) for peer in PEERS),
    *((f"medians /{peer}", lambda r, peer=peer: ratio(r, peer, "of_medians")) for peer in PEERS),
    ("cycles/pkt", lambda r: number(r["cycles"], ".1f")),
    ("lost", lambda r: number(r["lost"], ".2%")),
    ("gen idle", lambda r: number(r["idle"], ".0%") + ("!" if r["limited_by_generator"] else "")),
]
LATENCIES: Columns = NAMES + [
    ("load", lambda r: number(r["load"], ".0%")),
    ("switch", lambda r: r["switch"]),
    ("runs", lambda r: str(r["runs"])),
    ("Mpps", lambda r: number(r["mpps"], ".3f")),
    *((f"{name} us", lambda r, name=name: number(r[name], ".1f")) for name in ("p50", "p99", "p99.9", "max")),
    ("lost", lambda r: number(r["lost"], ".4%")),
    ("late", lambda r: number(r["late"], ".2%")),
]
LEFT = {"case", "tunnel", "size", "rings", "switch"}


def cells(columns: Columns, rows: list[Row]) -> list[list[str]]:
    return [[name for name, _ in columns]] + [[cell(row) for _, cell in columns] for row in rows]


def text_table(columns: Columns, rows: list[Row]) -> str:
    lines = cells(columns, rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]

    def aligned(line: list[str]) -> str:
        return "  ".join(c.ljust(w) if name in LEFT else c.rjust(w) for c, w, (name, _) in zip(line, widths, columns)).rstrip()

    return "\n".join(map(aligned, lines))


def text(machine: dict[str, str], runs: list[Run], rows: list[Row], slow: list[Row]) -> str:
    left_out = [r for r in runs if r["why_not"]]
    lines = [", ".join(f"{k}: {v}" for k, v in machine.items()), "", text_table(RATES, rows), ""]
    if rows:
        lines.append("/peer: the median of the ratios in rounds where both count (pairs of them); medians /peer: the ratio of the medians.")
    if any(r["limited_by_generator"] for r in rows):
        lines.append(f"! the generator had less than {MIN_IDLE:.0%} idle time: it may have been the limit.")
    if slow:
        lines += ["", "Latency at a share of each one's own rate; lost: with what the ring did not take; late: what the generator could not send in time.",
                  "", text_table(LATENCIES, slow), ""]
    lines.append(f"{len(runs)} runs, {len(left_out)} left out.")
    for run in left_out:
        load = "" if run["load"] is None else f", at {run['load']:.0%}"
        lines.append(f"  left out: {run['switch']}, {run['name']}{load}, round {run['round']}: {run['why_not']}")
    return "\n".join(lines) + "\n"


def write(folder: Path, stem: str, machine: dict[str, str], settings: dict[str, Any], runs: list[Run]) -> tuple[str, list[str]]:
    """Writes STEM.txt, .tsv, .json and plots to the folder; returns the text and the files' names."""
    rows, slow = rates(runs), latencies(runs)
    told = text(machine, runs, rows, slow)
    files = {f"{stem}.txt": told, f"{stem}.tsv": tsv(RATES, rows)}
    if slow:
        files[f"{stem}-latency.tsv"] = tsv(LATENCIES, slow)
    whole = {"machine": machine, "settings": settings, "rows": rows, "latencies": slow, "runs": runs}
    files[f"{stem}.json"] = json.dumps(whole, indent=1) + "\n"
    for near in sorted({row["distance_ns"] for row in rows}):
        files[f"{stem}-{near}ns.svg"] = plot.flows([row for row in rows if row["distance_ns"] == near], f"{machine['cpu']}, cores {near} ns apart")
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return told, list(files)


def tsv(columns: Columns, rows: list[Row]) -> str:
    return "\n".join("\t".join(line) for line in cells(columns, rows)) + "\n"
