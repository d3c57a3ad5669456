"""From runs to rows: which runs count, medians, ratios to the peers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from machine import same_place

MIN_IDLE = 0.05
MAX_LATE = 0.02
# What the others are compared with.
PEERS = ("testpmd", "ovs")
# What makes runs comparable, apart from the cores' distance.
KEY = ("case", "tunnel", "size", "virtio", "flows")

Run = dict[str, Any]
Row = dict[str, Any]


def judge(run: Run, max_stolen: float) -> str:
    """Why a run does not count; empty if it does. `max_stolen`: share of the time that a core may be taken away for."""
    if run["bad"]:
        return f"{run['bad']} wrong frames"
    if run["lost"] < 0:
        return f"{-run['lost']} frames more than were sent"
    if run["worker_stolen"] > max_stolen:
        return f"the worker waited for its core {run['worker_stolen']:.1%} of the time"
    if run["stolen"] > max_stolen:
        return f"the generator waited for its core {run['stolen']:.1%} of the time"
    if run["steal_ticks"] > run["seconds"] * 100 * max_stolen:
        return "the hypervisor took a core"
    if not same_place(*run["distance_ns"]):
        return "the cores moved: {:.0f} ns before, {:.0f} ns after".format(*run["distance_ns"])
    return ""


def judge_load(run: Run, full: Run) -> str:
    """Why a run at a share of another's rate does not count, although it would by itself."""
    if full["why_not"]:
        return f"its full rate does not count: {full['why_not']}"
    if (late := run["late"] / max(1, run["sent"] + run["unsent"] + run["late"])) > MAX_LATE:
        return f"the generator sent {late:.1%} less than it should"
    if not same_place(distance(run), distance(full)):
        return f"the cores moved since its full rate: {distance(full):.0f} ns then, {distance(run):.0f} ns now"
    return ""


def distance(run: Run) -> float:
    """How far apart the cores were, in nanoseconds."""
    return statistics.mean(run["distance_ns"])


def regimes(runs: list[Run]) -> list[list[Run]]:
    """Runs grouped by core distance; a group's members are near one another."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=distance):
        if groups and same_place(distance(groups[-1][0]), distance(run)):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def groups(runs: list[Run]) -> Iterator[tuple[tuple[Any, ...], float, dict[str, list[Run]]]]:
    """The runs that count: per case, load and regime, by switch, with the regime's distance. Regimes are found over all
    cases, so that a distance is one throughout."""
    keys = (*KEY, "load")
    for regime in regimes([r for r in runs if not r["why_not"]]):
        near = statistics.median(x for r in regime for x in r["distance_ns"])
        for key in dict.fromkeys(tuple(r[k] for k in keys) for r in regime):
            by_switch: dict[str, list[Run]] = {}
            for run in regime:
                if tuple(run[k] for k in keys) == key:
                    by_switch.setdefault(run["switch"], []).append(run)
            yield key, near, by_switch


def in_order(rows: list[Row], runs: list[Run]) -> list[Row]:
    """Sorted as the runs were made: by case, then by regime, load and switch."""
    keys = list(dict.fromkeys(tuple(r[k] for k in KEY) for r in runs))
    switches = list(dict.fromkeys(r["switch"] for r in runs))

    def place(row: Row) -> tuple[float, ...]:
        return keys.index(tuple(row[k] for k in KEY)), row["distance_ns"], row["load"] or 0, switches.index(row["switch"])

    return sorted(rows, key=place)


def pairs(mine: list[Run], others: list[Run]) -> list[float]:
    """The ratio of the rates in each round that has a run of both."""
    theirs = {r["round"]: r["rx_pps"] for r in others}
    return [r["rx_pps"] / theirs[r["round"]] for r in mine if theirs.get(r["round"])]


def gbps(run: Run) -> float:
    """Inner frames' bits a second, without FCS, in 10^9."""
    bits = sum(int(size) * 8 * n for size, n in run["received_by_size"].items())
    return run["rx_pps"] * bits / max(1, run["received"]) / 1e9


def rates(runs: list[Run]) -> list[Row]:
    """One row per case, regime and switch. Only runs of one regime are compared with one another."""
    rows = []
    for key, near, by_switch in groups([r for r in runs if r["load"] is None]):
        medians = {name: statistics.median(r["rx_pps"] for r in mine) for name, mine in by_switch.items()}
        for switch, mine in by_switch.items():
            speeds = [r["rx_pps"] / 1e6 for r in mine]
            cycles = [r["cycles_per_packet"] for r in mine if r["cycles_per_packet"]]
            idle = statistics.median(r["idle"] for r in mine)
            ratios = {}
            for peer in PEERS:
                if peer in by_switch:
                    same_round = pairs(mine, by_switch[peer])
                    ratios[peer] = {"of_medians": medians[switch] / medians[peer], "pairs": len(same_round),
                                    "median_of_pairs": statistics.median(same_round) if same_round else None}
            rows.append(dict(zip((*KEY, "load"), key)) | {
                "switch": switch, "distance_ns": round(near), "runs": len(mine),
                "mpps": statistics.median(speeds), "min": min(speeds), "max": max(speeds),
                "gbps": statistics.median(gbps(r) for r in mine), "ratios": ratios,
                "cycles": statistics.median(cycles) if cycles else None,
                "lost": statistics.median(r["lost"] / max(1, r["sent"]) for r in mine),
                "idle": idle, "limited_by_generator": idle < MIN_IDLE,
            })
    return in_order(rows, runs)


def latencies(runs: list[Run]) -> list[Row]:
    """One row per case, regime, load and switch: medians over the runs, and the largest maximum."""
    rows = []
    for key, near, by_switch in groups([r for r in runs if r["load"] is not None]):
        for switch, mine in by_switch.items():
            def median(name: str) -> float:
                return statistics.median(r["latency_us"][name] for r in mine)

            rows.append(dict(zip((*KEY, "load"), key)) | {
                "switch": switch, "distance_ns": round(near), "runs": len(mine),
                "mpps": statistics.median(r["tx_pps"] for r in mine) / 1e6,
                "p50": median("p50"), "p99": median("p99"), "p99.9": median("p99.9"),
                "max": max(r["latency_us"]["max"] for r in mine),
                "lost": statistics.median((r["lost"] + r["unsent"]) / max(1, r["sent"] + r["unsent"]) for r in mine),
                "late": statistics.median(r["late"] / max(1, r["sent"] + r["unsent"] + r["late"]) for r in mine),
            })
    return in_order(rows, runs)
