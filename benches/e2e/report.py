"""From runs to a table: which runs count, medians, ratios; as text, TSV and JSON."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from machine import same_place

MAX_STOLEN = 0.03
MIN_IDLE = 0.05

Run = dict[str, Any]


def judge(run: Run) -> str:
    """Why a run does not count; empty if it does."""
    if run["bad"]:
        return f"{run['bad']} wrong frames"
    if run["worker_stolen"] > MAX_STOLEN:
        return f"the worker waited for its core {run['worker_stolen']:.1%} of the time"
    if run["stolen"] > MAX_STOLEN:
        return f"the generator waited for its core {run['stolen']:.1%} of the time"
    if run["steal_ticks"] > run["seconds"] * 100 * MAX_STOLEN:
        return "the hypervisor took a core"
    if not same_place(*run["distance_ns"]):
        return "the cores moved: {:.0f} ns before, {:.0f} ns after".format(*run["distance_ns"])
    return ""


def regimes(runs: list[Run]) -> list[list[Run]]:
    """Runs grouped by core distance; a group's members are near one another."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda r: statistics.mean(r["distance_ns"])):
        at = statistics.mean(run["distance_ns"])
        if groups and same_place(statistics.mean(groups[-1][0]["distance_ns"]), at):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def summarise(runs: list[Run], references: list[str]) -> list[dict[str, Any]]:
    """One row per case, regime and switch. Only runs of one regime are compared with one another."""
    rows = []
    keys = dict.fromkeys((r["case"], r["tunnel"], r["flows"], r["size"]) for r in runs)
    for key in keys:
        of_case = [r for r in runs if (r["case"], r["tunnel"], r["flows"], r["size"]) == key and not r["why_not"]]
        for group in regimes(of_case):
            by_switch: dict[str, list[Run]] = {}
            for run in group:
                by_switch.setdefault(run["switch"], []).append(run)
            bases = {name: statistics.median(r["rx_pps"] for r in by_switch[name]) for name in references if name in by_switch}
            for switch, mine in by_switch.items():
                rates = [r["rx_pps"] for r in mine]
                cycles = [r["cycles_per_packet"] for r in mine if r["cycles_per_packet"]]
                idle = statistics.median(r["idle"] for r in mine)
                rows.append({
                    "case": key[0], "tunnel": key[1], "flows": key[2], "size": key[3], "switch": switch,
                    "distance_ns": round(statistics.median(x for r in group for x in r["distance_ns"])),
                    "runs": len(mine),
                    "mpps": statistics.median(rates) / 1e6, "min": min(rates) / 1e6, "max": max(rates) / 1e6,
                    "ratios": {name: statistics.median(rates) / base for name, base in bases.items()},
                    "cycles": statistics.median(cycles) if cycles else None,
                    "lost": statistics.median(max(0.0, 1 - r["rx_pps"] / r["tx_pps"]) for r in mine),
                    "idle": idle,
                    "limited_by_generator": idle < MIN_IDLE,
                })
    return rows


COLUMNS = ["case", "tunnel", "flows", "switch", "near_ns", "runs", "Mpps", "min", "max", "/testpmd", "/ovs", "cycles/pkt", "lost", "gen idle"]


def cells(row: dict[str, Any]) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [row["case"], "-" if row["case"] == "l2" else row["tunnel"], str(row["flows"]), row["switch"],
            str(row["distance_ns"]), str(row["runs"]), number(row["mpps"], ".2f"), number(row["min"], ".2f"),
            number(row["max"], ".2f"), *(number(row["ratios"].get(name), ".2f") for name in ("testpmd", "ovs")), number(row["cycles"], ".1f"),
            number(row["lost"], ".1%"), number(row["idle"], ".0%") + ("!" if row["limited_by_generator"] else "")]


def text_table(rows: list[dict[str, Any]]) -> str:
    lines = [COLUMNS] + [cells(r) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    out = []
    for line in lines:
        out.append("  ".join(c.ljust(w) if i < 2 or i == 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())
    return "\n".join(out)


def write(folder: Path, stem: str, machine: dict[str, str], settings: dict[str, Any], runs: list[Run],
          references: list[str]) -> str:
    """Writes STEM.txt, .tsv and .json to the folder; returns the text."""
    rows = summarise(runs, references)
    left_out = [r for r in runs if r["why_not"]]
    lines = [", ".join(f"{k}: {v}" for k, v in machine.items()), "", text_table(rows), ""]
    if any(r["limited_by_generator"] for r in rows):
        lines.append(f"! the generator had less than {MIN_IDLE:.0%} idle time: it may have been the limit.")
    lines.append(f"{len(runs)} runs, {len(left_out)} left out.")
    lines += [f"  left out: {r['switch']}, {r['name']}, round {r['round']}: {r['why_not']}" for r in left_out]
    text = "\n".join(lines) + "\n"
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.txt").write_text(text)
    (folder / f"{stem}.tsv").write_text("\n".join("\t".join(line) for line in [COLUMNS] + [cells(r) for r in rows]) + "\n")
    whole = {"machine": machine, "settings": settings, "rows": rows, "runs": runs}
    (folder / f"{stem}.json").write_text(json.dumps(whole, indent=1) + "\n")
    return text
