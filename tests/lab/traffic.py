"""iperf3 between tenants, and packets as tshark sees them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .netns import Netns
from .proc import LabError, run, wait_for


@dataclass(frozen=True)
class Throughput:
    """Result of an iperf3 run, as the receiver counted it."""

    bits_per_second: float
    bytes: int
    lost_packets: int
    packets: int


def iperf3(server: Netns, client: Netns, address: str, *, seconds: int = 2, udp: bool = False, bitrate: str = "",
           reverse: bool = False, length: int = 0) -> Throughput:
    """Runs iperf3 from `client` to `server`, who has `address`."""
    listener = server.spawn(["iperf3", "-s", "-1", "-J"], name="iperf3-server")
    wait_for(lambda: ":5201" in server.run("ss", "-Hltn"), 5, "iperf3 listens")
    words = ["iperf3", "-c", address, "-t", str(seconds), "-J"]
    words += ["-u"] if udp else []
    words += ["-b", bitrate] if bitrate else []
    words += ["-R"] if reverse else []
    words += ["-l", str(length)] if length else []
    out = client.run(*words, check=False, timeout=seconds + 20)
    listener.stop()
    report: dict[str, Any] = json.loads(out or "{}")
    if "error" in report or "end" not in report:
        raise LabError(f"iperf3: {report.get('error', out[-500:])}")
    end = report["end"]
    if udp:
        total = end["sum"]
        return Throughput(total["bits_per_second"], total["bytes"], total["lost_packets"], total["packets"])
    total = end["sum_received"]
    return Throughput(total["bits_per_second"], total["bytes"], 0, 0)


@contextlib.contextmanager
def capture(ns: Netns, device: str, path: Path, filter: str = "") -> Iterator[Path]:
    """Captures on a device while the block runs; yields the pcap file."""
    words = ["tcpdump", "-i", device, "-U", "--immediate-mode", "-n", "-s", "0", "-w", str(path)]
    proc = ns.spawn([*words, *([filter] if filter else [])], name="tcpdump")
    wait_for(lambda: "listening on" in proc.tail(), 10, "tcpdump listens")
    try:
        yield path
    finally:
        proc.stop()


def tshark_text(pcap: Path, filter: str, *, count: int = 1) -> str:
    """The first matching packet as tshark explains it, one line a layer plus the fields of the tunnel."""
    out = run(["tshark", "-n", "-r", pcap, "-Y", filter, "-c", str(count), "-V",
               "-O", "eth,ip,udp,vxlan,geneve,icmp"], check=False, timeout=30).stdout
    keep = r"^(Frame|Ethernet|Internet|User|Virtual|Generic|\s+(Source Port|Destination Port|Virtual Network|VXLAN Network|.*\(VNI\)|Time to Live|Type: (8|0)|Protocol Type|Version: 0))"
    return "\n".join(line for line in out.splitlines() if re.match(keep, line))


def tshark_fields(pcap: Path, filter: str, *fields: str) -> list[list[list[str]]]:
    """Chosen fields of matching packets; each field is a list, since tunnels hold some layers twice."""
    words: list[str | Path] = ["tshark", "-n", "-r", pcap, "-Y", filter, "-T", "fields"]
    for field in fields:
        words += ["-e", field]
    out = run(words, check=False, timeout=30).stdout
    return [[value.split(",") for value in line.split("\t")] for line in out.splitlines()]
