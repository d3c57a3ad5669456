"""iperf3 between tenants, and packets as tshark sees them."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator, Sequence
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


def write_pcap(path: Path, frames: Sequence[bytes]) -> None:
    """Ethernet frames as a classic pcap file."""
    records = b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)


@contextlib.contextmanager
def capture(ns: Netns, device: str, path: Path) -> Iterator[Path]:
    """Captures what a device receives while the block runs; yields the pcap file, written when the block ends.

    A socket of ours and no capture program: it listens from the first line of the block to the last.
    """
    wire = ns.wire(device)
    yield path
    write_pcap(path, wire.drain())


_TSHARK = ["tshark", "-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]


def tshark_text(pcap: Path, filter: str) -> str:
    """The first matching packet as tshark explains it: a line for each layer, and the tunnel's VNI."""
    words = [*_TSHARK, "-r", pcap, "-Y", filter, "-V", "-O", "eth,ip,udp,vxlan,geneve,icmp"]
    layers: list[str] = []
    for line in run(words, check=False, timeout=30).stdout.splitlines():
        if line.startswith("Frame ") and layers:
            break
        if line[:1].isalpha() or "Identifier (VNI)" in line or "Header checksum status" in line or "Type: 8" in line:
            layers.append(line)
    return "\n".join(layers)


def tshark_fields(pcap: Path, filter: str, *fields: str) -> list[list[list[str]]]:
    """Chosen fields of matching packets; each field is a list, since tunnels hold some layers twice."""
    words: list[str | Path] = [*_TSHARK, "-r", pcap, "-Y", filter, "-T", "fields"]
    for field in fields:
        words += ["-e", field]
    out = run(words, check=False, timeout=30).stdout
    return [[value.split(",") for value in line.split("\t")] for line in out.splitlines()]
