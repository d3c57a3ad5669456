"""What is measured: the cases, and the addresses that weft-gen uses (benches/src/frames.rs)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SWITCH_MAC, SWITCH_IP = "02:aa:00:00:00:01", "192.168.50.1"
PEER_MAC, PEER_IP = "02:aa:00:00:00:02", "192.168.50.2"
VNI = 100


@dataclass(frozen=True)
class Case:
    """encap: VM to wire. decap: wire to VM. l2: VM to VM, where there is no tunnel."""

    kind: str
    tunnel: str
    flows: int
    size: int = 64

    def macs(self) -> Iterator[str]:
        """The destination MAC addresses that the generator sends to."""
        for n in range(self.flows):
            yield f"02:10:00:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"

    def __str__(self) -> str:
        where = self.kind if self.kind == "l2" else f"{self.kind} {self.tunnel}"
        return f"{where}, {self.flows:,} flow{'s' if self.flows > 1 else ''}, {self.size} B"


def cases(kinds: list[str], tunnels: list[str], flows: list[int], size: int) -> list[Case]:
    """Every combination that makes sense."""
    found = []
    for kind in kinds:
        for tunnel in tunnels[:1] if kind == "l2" else tunnels:
            found += [Case(kind, tunnel, n, size) for n in flows]
    return found
