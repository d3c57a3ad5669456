"""Frames for tests, good ones and hostile ones, built with scapy from the RFCs' fields."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment  # noqa: E402
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

VXLAN_PORT = 4789
GENEVE_PORT = 6081
BROADCAST = "ff:ff:ff:ff:ff:ff"

__all__ = ["ARP", "BROADCAST", "Dot1AD", "Dot1Q", "Ether", "ICMP", "IP", "IPv6", "IPv6ExtHdrFragment", "Outer", "Raw",
           "TCP", "UDP", "arp_request", "decode_tunnel", "echo_request", "fragment", "geneve", "geneve_option",
           "inner_udp", "prefixes", "vxlan"]


def inner_udp(src: str = "02:00:00:00:00:02", dst: str = "02:00:00:00:00:01", *, sip: str = "10.0.0.2",
              dip: str = "10.0.0.1", payload: bytes = b"weft-test-payload!", vlans: Sequence[int] = (),
              sport: int = 1000, dport: int = 2000, tos: int = 0) -> bytes:
    """A tenant's UDP frame, with VLAN tags (outermost first) if asked."""
    packet: Packet = Ether(src=src, dst=dst)
    for vlan in vlans:
        packet /= Dot1Q(vlan=vlan)
    return bytes(packet / IP(src=sip, dst=dip, tos=tos) / UDP(sport=sport, dport=dport) / Raw(payload))


def arp_request(src: str, sender: str, target: str) -> bytes:
    return bytes(Ether(src=src, dst=BROADCAST) / ARP(op=1, hwsrc=src, psrc=sender, pdst=target) / Raw(bytes(18)))


def echo_request(src: str, dst: str, sip: str, dip: str, *, size: int = 56, sequence: int = 1) -> bytes:
    return bytes(Ether(src=src, dst=dst) / IP(src=sip, dst=dip) / ICMP(id=77, seq=sequence) / Raw(bytes(size)))


@dataclass(frozen=True)
class Outer:
    """Addresses of an outer header as a remote VTEP writes it."""

    src_mac: str
    dst_mac: str
    src_ip: str
    dst_ip: str
    sport: int = 49200

    def wrap(self, payload: bytes, dport: int, *, checksum: bool = False, udp_length: int | None = None,
             udp_checksum: int | None = None, ip_length: int | None = None, ip_checksum: int | None = None,
             ip_flags: str = "DF", frag: int = 0, version: int = 4, ihl: int | None = None, ttl: int = 64, tos: int = 0,
             options: bytes = b"") -> bytes:
        """Ethernet, IPv4 and UDP around `payload`; every length and checksum can be set wrong."""
        udp = UDP(sport=self.sport, dport=dport, len=udp_length)
        if udp_checksum is not None:
            udp.chksum = udp_checksum
        elif not checksum:
            udp.chksum = 0
        ip = IP(src=self.src_ip, dst=self.dst_ip, flags=ip_flags, frag=frag, ttl=ttl, tos=tos, len=ip_length,
                chksum=ip_checksum, version=version, ihl=ihl)
        if options:
            ip.options = [Raw(options)]
        return bytes(Ether(src=self.src_mac, dst=self.dst_mac) / ip / udp / Raw(payload))

    def vxlan(self, vni: int, inner: bytes, *, flags: int = 0x08, reserved: bytes = bytes(3), last: int = 0,
              port: int = VXLAN_PORT, **changes: object) -> bytes:
        return self.wrap(vxlan(vni, inner, flags=flags, reserved=reserved, last=last), port, **changes)  # type: ignore[arg-type]

    def geneve(self, vni: int, inner: bytes, *, version: int = 0, options: bytes = b"", option_words: int | None = None,
               control: bool = False, critical: bool = False, protocol: int = 0x6558, port: int = GENEVE_PORT,
               last: int = 0, **changes: object) -> bytes:
        header = geneve(vni, inner, version=version, options=options, option_words=option_words, control=control,
                        critical=critical, protocol=protocol, last=last)
        return self.wrap(header, port, **changes)  # type: ignore[arg-type]

    def encap(self, kind: str, vni: int, inner: bytes) -> bytes:
        return self.vxlan(vni, inner) if kind == "vxlan" else self.geneve(vni, inner)


def vxlan(vni: int, inner: bytes, *, flags: int = 0x08, reserved: bytes = bytes(3), last: int = 0) -> bytes:
    """RFC 7348, section 5: flags, 24 reserved bits, VNI, 8 reserved bits."""
    return bytes([flags]) + reserved + vni.to_bytes(3, "big") + bytes([last]) + inner


def geneve(vni: int, inner: bytes, *, version: int = 0, options: bytes = b"", option_words: int | None = None,
           control: bool = False, critical: bool = False, protocol: int = 0x6558, last: int = 0) -> bytes:
    """RFC 8926, section 3.4: version and option length (in 4-byte words), O and C bits, protocol, VNI, reserved."""
    words = len(options) // 4 if option_words is None else option_words
    first = (version << 6) | (words & 0x3F)
    second = (control << 7) | (critical << 6)
    return struct.pack("!BBH", first, second, protocol) + vni.to_bytes(3, "big") + bytes([last]) + options + inner


def geneve_option(kind: int, data: bytes = b"", *, option_class: int = 0x0102, critical: bool = False,
                  words: int | None = None) -> bytes:
    """RFC 8926, section 3.5: the high bit of the type says that a receiver must know it."""
    length = len(data) // 4 if words is None else words
    return struct.pack("!HBB", option_class, (critical << 7) | kind, length & 0x1F) + data


def prefixes(frame: bytes, first: int = 1) -> Iterator[bytes]:
    """The frame cut at every length."""
    for length in range(first, len(frame)):
        yield frame[:length]


@dataclass(frozen=True)
class Tunnelled:
    """A tunnel packet taken apart by scapy, not by weft's parser."""

    encap: str
    vni: int
    src: str
    dst: str
    sport: int
    dport: int
    ttl: int
    tos: int
    dont_fragment: bool
    udp_checksum: int
    inner: bytes
    src_mac: str
    dst_mac: str


def decode_tunnel(frame: bytes) -> Tunnelled | None:
    """Takes a VXLAN or GENEVE packet apart; None for anything else. The IPv4 checksum must be right."""
    packet = Ether(frame)
    if IP not in packet or UDP not in packet or packet[IP].proto != 17:
        return None
    ip, udp = packet[IP], packet[UDP]
    if udp.dport not in (VXLAN_PORT, GENEVE_PORT):
        return None
    wanted = ip.copy()
    wanted.chksum = None
    if IP(bytes(wanted)).chksum != ip.chksum:
        raise AssertionError(f"outer IPv4 checksum is wrong: {frame[:50].hex()}")
    start = 14 + 4 * ip.ihl + 8
    header = frame[start:14 + ip.len]
    if udp.dport == VXLAN_PORT:
        encap, skip = "vxlan", 8
        if header[0] != 0x08 or header[1:4] != bytes(3) or header[7]:
            raise AssertionError(f"VXLAN header {header[:8].hex()} is not what RFC 7348 says")
    else:
        encap, skip = "geneve", 8 + 4 * (header[0] & 0x3F)
        if header[0] >> 6 or header[1] or header[2:4] != b"\x65\x58" or header[7]:
            raise AssertionError(f"GENEVE header {header[:8].hex()} is not what RFC 8926 says")
    return Tunnelled(
        encap=encap, vni=int.from_bytes(header[4:7], "big"), src=ip.src, dst=ip.dst, sport=udp.sport, dport=udp.dport,
        ttl=ip.ttl, tos=ip.tos, dont_fragment="DF" in ip.flags, udp_checksum=udp.chksum, inner=header[skip:],
        src_mac=packet.src, dst_mac=packet.dst,
    )
