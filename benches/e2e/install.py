"""How long it takes to install many forwarding entries by the API, and how much memory they take: weftd, and Open vSwitch
with as many OpenFlow rules. Both read them from a file; the time is that of the command-line program from its start
to its end. Then the same file once more, and single changes: from the line that is written into `weftctl fdb apply -` to the line
that says that it is in force."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any

from cases import Case
from changing import VTEPS, Changing, added, resident
from openvswitch import TUNNEL, VM0, OpenVSwitch
from switches import Failed, program

Result = dict[str, Any]
# Seconds that a program may take.
PATIENCE = 600
# Changes that are made one by one when all entries are there.
SINGLE = 500


def _timed(argv: list[str]) -> float:
    begin = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv[:4])}...: {done.stderr.strip() or done.stdout.strip()}")
    return time.monotonic() - begin


def weft(entries: int, folder: Path, cores: tuple[int, int]) -> Result:
    switch = Changing(Case("encap", "vxlan", entries), folder, *cores)
    file = folder / "entries"
    file.write_text(added(switch.case.macs()))
    try:
        switch.start()
        before = resident(switch.proc.pid)
        argv = [str(program("weftctl")), "--socket", str(switch.socket("api")), "fdb", "apply", str(file)]
        seconds = _timed(argv)
        grown = resident(switch.proc.pid) - before
        there = switch.ctl("status")["fdb_entries"]
        table = switch.ctl("stats")["fdb"]["bytes"]
        again = _timed(argv)
        moves = (f"add bench {mac} vtep {VTEPS[1]}\n" for mac in switch.case.macs())
        single = sorted(switch.round_trips(itertools.islice(moves, SINGLE)))
    finally:
        switch.stop()
    if there != entries:
        raise Failed(f"weftd has {there} entries of {entries}")
    return {"switch": "weft", "entries": entries, "seconds": seconds, "mb": grown, "before_mb": before, "table_mb": table / 1e6,
            "again_seconds": again, "single_us": {"p50": single[SINGLE // 2] * 1e6, "p99": single[SINGLE * 99 // 100] * 1e6}}


def ovs(entries: int, folder: Path, cores: tuple[int, int]) -> Result:
    switch = OpenVSwitch(Case("encap", "vxlan", 1), folder, *cores)
    rules = folder / "rules"
    macs = Case("encap", "vxlan", entries).macs()
    rules.write_text("".join(f"in_port={VM0},dl_dst={mac},actions=output:{TUNNEL}\n" for mac in macs))
    try:
        switch.start()
        before = resident(switch.proc.pid)
        seconds = _timed(["ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", f"unix:{folder / 'int.mgmt'}", str(rules)])
        grown = resident(switch.proc.pid) - before
        counted = switch._run("ovs-ofctl", "-O", "OpenFlow14", "dump-aggregate", f"unix:{folder / 'int.mgmt'}", seconds=PATIENCE)
    finally:
        switch.stop()
    # The rule of the case itself is among them.
    if f"flow_count={entries}" not in counted:
        raise Failed(f"Open vSwitch has other than {entries} rules: {counted.strip()}")
    return {"switch": "ovs", "entries": entries, "seconds": seconds, "mb": grown, "before_mb": before, "table_mb": None,
            "again_seconds": None, "single_us": None}


def text(results: list[Result]) -> str:
    lines = [f"{'switch':<8} {'entries':>10} {'seconds':>9} {'entries/s':>11} {'memory grew':>12} {'bytes/entry':>12} {'same again':>11} {'single change p50, p99':>23}"]
    for r in results:
        again = f"{r['again_seconds']:.3f} s" if r["again_seconds"] is not None else "-"
        single = "{p50:.0f}, {p99:.0f} us".format(**r["single_us"]) if r["single_us"] else "-"
        lines.append(f"{r['switch']:<8} {r['entries']:>10,} {r['seconds']:>9.3f} {r['entries'] / r['seconds']:>11,.0f} "
                     f"{r['mb']:>9.1f} MB {r['mb'] * 1e6 / r['entries']:>12.1f} {again:>11} {single:>23}")
    return "\n".join(lines)
