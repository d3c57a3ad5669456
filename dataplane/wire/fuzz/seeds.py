#!/usr/bin/env python3
"""Writes the seed frames of the fuzz targets; needs scapy (apt: python3-scapy)."""

from pathlib import Path

from scapy.all import ARP, ICMP, IP, IPv6, Dot1AD, Dot1Q, Ether, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.all import IPv6ExtHdrHopByHop, Raw, SCTP, TCP, UDP, IPOption_RR
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.vxlan import VXLAN

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
V4 = IP(src="10.0.0.2", dst="10.0.0.1", tos=0xB9)
V6 = IPv6(src="fd00::2", dst="fd00::1", tc=0xB9)
INNER = ETHER / IP(src="172.16.0.2", dst="172.16.0.1") / UDP(sport=1000, dport=2000) / Raw(b"payload")
VX = UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=100, flags=8)
GV = UDP(sport=50000, dport=6081, chksum=0)


def geneve(**fields):
    return GV / GENEVE(vni=100, proto=0x6558, **fields)


SEEDS = {
    "inspect": {
        "tcp": ETHER / V4 / TCP(sport=1000, dport=80),
        "udp-vlan": ETHER / Dot1Q(vlan=5) / V4 / UDP(sport=1000, dport=53),
        "sctp-qinq": ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / V4 / SCTP(sport=1, dport=2),
        "fragment": ETHER / IP(src="10.0.0.2", dst="10.0.0.1", flags="MF", frag=3, proto=17) / Raw(b"x" * 24),
        "options": ETHER / IP(options=[IPOption_RR()]) / TCP(),
        "ipv6": ETHER / V6 / TCP(sport=1000, dport=80),
        "ipv6-extensions": ETHER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(),
        "ipv6-fragment": ETHER / V6 / IPv6ExtHdrFragment(m=1) / UDP(),
        "arp": ETHER / ARP(),
    },
    "classify_underlay": {
        "vxlan": ETHER / V4 / VX / INNER,
        "vxlan-checksum": ETHER / V4 / UDP(sport=50000, dport=4789) / VXLAN(vni=100, flags=8) / INNER,
        "vxlan-ip-options": ETHER / IP(src="10.0.0.2", dst="10.0.0.1", options=[IPOption_RR()]) / VX / INNER,
        "vxlan-tagged": ETHER / Dot1Q(vlan=5) / V4 / VX / INNER,
        "geneve": ETHER / V4 / geneve() / INNER,
        "geneve-options": ETHER
        / V4
        / geneve(options=[GeneveOptions(classid=1, type=1, data=b"abcd"), GeneveOptions(classid=1, type=2)])
        / INNER,
        "geneve-critical": ETHER / V4 / geneve(critical=1, options=[GeneveOptions(type=0x81)]) / INNER,
        "udp-host": ETHER / V4 / UDP(sport=1, dport=53),
        "arp": ETHER / ARP(),
    },
    "arp": {
        "request": Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:02")
        / ARP(op=1, hwsrc="02:00:00:00:00:02", psrc="10.0.0.2", pdst="10.0.0.1"),
        "reply": ETHER / ARP(op=2, hwsrc="02:00:00:00:00:02", psrc="10.0.0.2", pdst="10.0.0.1"),
    },
    "icmp": {
        "echo": ETHER / V4 / ICMP(type=8, id=1, seq=2) / Raw(b"0123456789" * 6),
        "echo-odd": ETHER / V4 / ICMP(type=8, id=1, seq=2) / Raw(b"odd"),
        "echo-options": ETHER / IP(src="10.0.0.2", dst="10.0.0.1", options=[IPOption_RR()]) / ICMP(type=8),
        "unreachable": ETHER / V4 / ICMP(type=3, code=4) / V4 / UDP(),
    },
}

for target, frames in SEEDS.items():
    folder = Path(__file__).parent / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        (folder / name).write_bytes(bytes(frame))
