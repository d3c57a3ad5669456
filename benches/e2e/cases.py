"""What is measured: the cases, and the addresses that weft-gen uses (benches/src/frames.rs)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SWITCH_MAC, SWITCH_IP = "02:aa:00:00:00:01", "192.168.50.1"
PEER_MAC, PEER_IP = "02:aa:00:00:00:02", "192.168.50.2"
VNI = 100

# How the VMs' rings are set up: arguments of DPDK's virtio-user. "vector" is the fastest; "mergeable" is what Linux
# guests and most others negotiate with split rings.
VIRTIO = {
    "vector": "queue_size=1024,mrg_rxbuf=0,in_order=1,vectorized=1",
    "mergeable": "queue_size=1024,mrg_rxbuf=1,in_order=0",
    "packed": "queue_size=1024,mrg_rxbuf=0,in_order=1,packed_vq=1,vectorized=1",
}


@dataclass(frozen=True)
class Case:
    """encap: VM to wire. decap: wire to VM. l2: VM to VM, where there is no tunnel."""

    kind: str
    tunnel: str
    flows: int
    # Bytes of the inner frame without FCS, or "imix".
    size: str = "64"
    # One of VIRTIO.
    virtio: str = "vector"

    def macs(self) -> Iterator[str]:
        """The destination MAC addresses that the generator sends to."""
        for n in range(self.flows):
            yield f"02:10:00:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"

    def __str__(self) -> str:
        where = self.kind if self.kind == "l2" else f"{self.kind} {self.tunnel}"
        rings = "" if self.virtio == "vector" else f", {self.virtio}"
        unit = "" if self.size == "imix" else " B"
        return f"{where}, {self.flows:,} flow{'s' if self.flows > 1 else ''}, {self.size}{unit}{rings}"


def cases(kinds: list[str], tunnels: list[str], flows: list[int], sizes: list[str], virtio: list[str]) -> list[Case]:
    """Every combination that makes sense."""
    return [Case(kind, tunnel, n, size, rings)
            for kind in kinds
            for tunnel in (tunnels[:1] if kind == "l2" else tunnels)
            for size in sizes for rings in virtio for n in flows]
