"""Hostile bytes, from the underlay and from VMs: a table says what becomes of each kind of frame."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab import frames, site, testpmd, traffic, weft
from lab.frames import Outer, geneve_option
from lab.netns import Wire
from lab.proc import Lab, wait_for
from lab.weft import DropCount, Weft

VXLAN_PEER, GENEVE_PEER, STRANGER = "192.168.50.2", "192.168.50.3", "192.168.50.9"
FORWARDED = "forwarded"
# Not for weft: it would go to the host's kernel, had the uplink a TAP.
TO_HOST = "exception-no-tap"

INNER = frames.inner_udp()
TAGGED = frames.inner_udp(vlans=[7])


@dataclass(frozen=True)
class Sender:
    """Builders of outer frames from the VXLAN peer, the GENEVE peer and a host that is no VTEP."""

    v: Outer
    g: Outer
    stranger: Outer


@dataclass(frozen=True)
class World:
    host: site.Site
    daemon: Weft
    wire: Wire
    tenant: Wire
    send: Sender
    peer_mac: str


def world(lab: Lab, *, inner_vlan: str = "drop", **uplink: object) -> World:
    """VNI 100 with two VTEPs, of each encapsulation one, and a tenant whose bytes are in the test's hands."""
    host, wire, mac = site.wire_site(lab, **uplink)
    host.vtep("v", VXLAN_PEER, "vxlan")
    host.vtep("g", GENEVE_PEER, "geneve")
    host.bd("web", 100, ["v", "g"], inner_vlan=inner_vlan)
    tenant = host.raw_port("t0", "web")
    daemon = host.start()
    # Both peers make themselves known, so that later nothing waits for ARP.
    for address in (VXLAN_PEER, GENEVE_PEER):
        wire.send(frames.arp_request(mac, address, host.address))
        wire.expect(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02", what="an ARP reply")
    outers = [Outer(mac, host.mac, address, host.address) for address in (VXLAN_PEER, GENEVE_PEER, STRANGER)]
    return World(host, daemon, wire, tenant, Sender(*outers), mac)


def patched(frame: bytes, at: int, data: bytes) -> bytes:
    return frame[:at] + data + frame[at + len(data):]


def tagged(frame: bytes, *tags: int) -> bytes:
    stack = b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags)
    return frame[:12] + stack + frame[12:]


def long_options(count: int) -> bytes:
    return b"".join(geneve_option(1, bytes(4)) for _ in range(count))


# From the underlay: kind of frame, how it is made, what becomes of it.
UNDERLAY: list[tuple[str, Callable[[Sender], bytes], str]] = [
    ("vxlan", lambda s: s.v.vxlan(100, INNER), FORWARDED),
    ("geneve", lambda s: s.g.geneve(100, INNER), FORWARDED),
    ("vxlan, right UDP checksum", lambda s: s.v.vxlan(100, INNER, checksum=True), FORWARDED),
    ("geneve, right UDP checksum", lambda s: s.g.geneve(100, INNER, checksum=True), FORWARDED),
    ("vxlan, wrong UDP checksum", lambda s: s.v.vxlan(100, INNER, udp_checksum=0x1234), "outer-bad-udp-checksum"),
    ("geneve, wrong UDP checksum", lambda s: s.g.geneve(100, INNER, udp_checksum=0x1234), "outer-bad-udp-checksum"),
    ("padded Ethernet frame", lambda s: s.v.vxlan(100, INNER) + bytes(20), FORWARDED),
    ("unknown VNI", lambda s: s.v.vxlan(101, INNER), "unknown-vni"),
    ("VNI 0", lambda s: s.v.vxlan(0, INNER), "unknown-vni"),
    ("largest VNI", lambda s: s.g.geneve(0xFFFFFF, INNER), "unknown-vni"),
    ("unknown VTEP", lambda s: s.stranger.vxlan(100, INNER), "unknown-vtep"),
    ("unknown VTEP, geneve", lambda s: s.stranger.geneve(100, INNER), "unknown-vtep"),
    # VXLAN header: RFC 7348, section 5.
    ("vxlan without I flag", lambda s: s.v.vxlan(100, INNER, flags=0x00), "vxlan-no-vni"),
    ("vxlan, all other flags set but I", lambda s: s.v.vxlan(100, INNER, flags=0xF7), "vxlan-no-vni"),
    ("vxlan, reserved bits set", lambda s: s.v.vxlan(100, INNER, flags=0xFF, reserved=b"\xff\xff\xff", last=0xFF), FORWARDED),
    # GENEVE header: RFC 8926, sections 3.4 and 3.5.
    ("geneve version 1", lambda s: s.g.geneve(100, INNER, version=1), "geneve-version"),
    ("geneve version 3", lambda s: s.g.geneve(100, INNER, version=3), "geneve-version"),
    ("geneve control packet", lambda s: s.g.geneve(100, INNER, control=True), "geneve-control"),
    ("geneve, critical bit and no option", lambda s: s.g.geneve(100, INNER, critical=True), "geneve-critical-option"),
    ("geneve with IPv4 inside", lambda s: s.g.geneve(100, INNER[14:], protocol=0x0800), "geneve-not-ethernet"),
    ("geneve, reserved byte set", lambda s: s.g.geneve(100, INNER, last=0xFF), FORWARDED),
    ("geneve, unknown option", lambda s: s.g.geneve(100, INNER, options=geneve_option(1, bytes(4))), FORWARDED),
    ("geneve, empty option", lambda s: s.g.geneve(100, INNER, options=geneve_option(1)), FORWARDED),
    ("geneve, 31 options", lambda s: s.g.geneve(100, INNER, options=long_options(31)), FORWARDED),
    ("geneve, critical option",
     lambda s: s.g.geneve(100, INNER, options=geneve_option(1, bytes(4), critical=True)), "geneve-critical-option"),
    ("geneve, critical option behind another",
     lambda s: s.g.geneve(100, INNER, options=geneve_option(1, bytes(4)) + geneve_option(2, critical=True)),
     "geneve-critical-option"),
    ("geneve, option longer than the options",
     lambda s: s.g.geneve(100, INNER, options=geneve_option(1, bytes(4), words=5)), "geneve-truncated"),
    ("geneve, options longer than the packet", lambda s: s.g.geneve(100, INNER, option_words=63), "geneve-truncated"),
    # Outer lengths and checksums.
    ("IPv4 checksum wrong", lambda s: s.v.vxlan(100, INNER, ip_checksum=0x1234), "outer-bad-ip-checksum"),
    ("IPv4 length beyond the frame", lambda s: s.v.vxlan(100, INNER, ip_length=1400), "outer-bad-ip-length"),
    ("IPv4 length without UDP", lambda s: s.v.vxlan(100, INNER, ip_length=27), "outer-bad-ip-length"),
    ("IPv4 length 0", lambda s: s.v.vxlan(100, INNER, ip_length=0), "outer-bad-ip-length"),
    ("UDP length beyond IPv4", lambda s: s.v.vxlan(100, INNER, udp_length=1400), "outer-bad-udp-length"),
    ("UDP length below its header", lambda s: s.v.vxlan(100, INNER, udp_length=7), "outer-bad-udp-length"),
    ("UDP length ends in the VXLAN header", lambda s: s.v.vxlan(100, INNER, udp_length=8 + 7), "vxlan-truncated"),
    ("UDP length ends in the inner header", lambda s: s.v.vxlan(100, INNER, udp_length=8 + 8 + 13), "inner-runt"),
    ("UDP length ends in the GENEVE header", lambda s: s.g.geneve(100, INNER, udp_length=8 + 7), "geneve-truncated"),
    ("IPv4 version 6", lambda s: s.v.vxlan(100, INNER, version=6), "outer-bad-ip-header"),
    ("IPv4 header length 16", lambda s: s.v.vxlan(100, INNER, ihl=4), "outer-bad-ip-header"),
    ("IPv4 options", lambda s: s.v.vxlan(100, INNER, options=b"\x01\x01\x01\x00"), FORWARDED),
    ("first fragment", lambda s: s.v.vxlan(100, INNER, ip_flags="MF"), "outer-fragment"),
    ("later fragment", lambda s: s.v.vxlan(100, INNER, ip_flags="", frag=10), "outer-fragment"),
    # Whom the frame is for.
    ("another MAC", lambda s: patched(s.v.vxlan(100, INNER), 0, bytes.fromhex("02aa00000077")), "not-our-mac"),
    ("broadcast MAC", lambda s: patched(s.v.vxlan(100, INNER), 0, b"\xff" * 6), TO_HOST),
    ("another IP address", lambda s: Outer(s.v.src_mac, s.v.dst_mac, VXLAN_PEER, "192.168.50.66").vxlan(100, INNER), TO_HOST),
    ("another UDP port", lambda s: s.v.vxlan(100, INNER, port=4790), TO_HOST),
    ("vxlan bytes on the geneve port", lambda s: s.v.wrap(frames.vxlan(100, INNER), 6081), "geneve-truncated"),
    ("TCP to the VTEP", lambda s: bytes(frames.Ether(src=s.v.src_mac, dst=s.v.dst_mac) / frames.IP(
        src=VXLAN_PEER, dst=s.v.dst_ip) / frames.TCP(dport=22)), TO_HOST),
    ("IPv6", lambda s: bytes(frames.Ether(src=s.v.src_mac, dst=s.v.dst_mac) / frames.IPv6() / frames.UDP()), TO_HOST),
    ("unknown ethertype", lambda s: patched(s.v.vxlan(100, INNER), 12, b"\x88\xb5"), TO_HOST),
    ("outer VLAN", lambda s: tagged(s.v.vxlan(100, INNER), 5), TO_HOST),
    ("outer VLAN stack", lambda s: tagged(s.v.vxlan(100, INNER), 5, 6), TO_HOST),
    # What is inside.
    ("inner VLAN in vxlan", lambda s: s.v.vxlan(100, TAGGED), "inner-vlan"),
    ("inner VLAN in geneve", lambda s: s.g.geneve(100, TAGGED), FORWARDED),
    ("inner header only", lambda s: s.v.vxlan(100, INNER[:14]), FORWARDED),
    ("nothing inside", lambda s: s.v.vxlan(100, b""), "inner-runt"),
    ("nothing inside geneve", lambda s: s.g.geneve(100, b""), "inner-runt"),
    ("inner source is a group", lambda s: s.v.vxlan(100, patched(INNER, 6, b"\x03")), "source-multicast"),
    ("inner to a bridge's own address", lambda s: s.v.vxlan(100, patched(INNER, 0, bytes.fromhex("0180c2000000"))),
     "reserved-multicast"),
    ("inner to a group", lambda s: s.v.vxlan(100, patched(INNER, 0, bytes.fromhex("01005e000001"))), FORWARDED),
    ("inner IPv4 with wrong lengths", lambda s: s.v.vxlan(100, patched(INNER, 16, b"\xff\xff")), FORWARDED),
    ("inner IPv4 header length 0", lambda s: s.v.vxlan(100, patched(INNER, 14, b"\x40")), FORWARDED),
]


def inner_of(frame: bytes) -> bytes:
    """What the tenant must get of a frame that is forwarded, by the outer lengths alone."""
    header = 14 + 4 * (frame[14] & 0x0F)
    end = header + int.from_bytes(frame[header + 4:header + 6], "big")
    tunnel = header + 8
    geneve = frame[header + 2:header + 4] == (6081).to_bytes(2, "big")
    return frame[tunnel + 8 + (4 * (frame[tunnel] & 0x3F) if geneve else 0):end]


def test_table_of_frames_from_the_underlay(lab: Lab) -> None:
    w = world(lab)
    baseline = w.daemon.in_use()
    wrong: list[str] = []
    for kind, build, fate in UNDERLAY:
        frame = build(w.send)
        w.tenant.drain()
        drops = DropCount(w.daemon)
        w.wire.send(frame)
        try:
            if fate == FORWARDED:
                got = w.tenant.expect(lambda _: True)
                assert got == inner_of(frame), f"the tenant got {got.hex()}"
                drops.wait({}, 1)
            else:
                drops.wait({fate: 1}, 2)
                assert not w.tenant.drain(), "it was forwarded as well"
        except (AssertionError, TimeoutError, RuntimeError) as error:
            wrong.append(f"{kind}: expected {fate}: {error}")
    assert not wrong, "\n".join(wrong)
    w.daemon.assert_no_leak(baseline + 64)


def test_inner_vlan_kept_when_told(lab: Lab) -> None:
    """RFC 7348, section 6.1: both ways a tagged frame passes VXLAN only if the network says so."""
    w = world(lab, inner_vlan="keep")
    w.wire.send(w.send.v.vxlan(100, TAGGED))
    assert w.tenant.expect(lambda _: True) == TAGGED
    stack = frames.inner_udp("02:00:00:00:00:01", "02:00:00:00:00:02", vlans=[7, 8])
    w.tenant.send(stack)
    got = [w.wire.expect_tunnel() for _ in range(2)]
    assert {t.encap for t in got} == {"vxlan", "geneve"}
    assert all(t.inner == stack for t in got)


def test_inner_vlan_dropped_from_tenants(lab: Lab) -> None:
    w = world(lab)
    drops = DropCount(w.daemon)
    w.tenant.send(frames.inner_udp("02:00:00:00:00:01", "02:00:00:00:00:02", vlans=[7]))
    assert w.wire.expect_tunnel().encap == "geneve"
    drops.wait({"inner-vlan": 1})


@pytest.mark.parametrize("encap", ["vxlan", "geneve"])
def test_every_length_cut(lab: Lab, encap: str) -> None:
    """A good packet cut at every length, first as it is, then with outer lengths that agree with the cut.

    By AF_PACKET: libpcap loses frames of a burst before weftd sees them.
    """
    w = world(lab, device=weft.af_packet(0, "up0"))
    baseline = w.daemon.in_use()
    sender = w.send.v if encap == "vxlan" else w.send.g
    header = frames.vxlan(100, b"") if encap == "vxlan" else frames.geneve(100, b"", options=long_options(2))
    whole = sender.wrap(header + INNER, 4789 if encap == "vxlan" else 6081)
    drops = DropCount(w.daemon)
    expected: dict[str, int] = {}
    # A raw socket sends no less than an Ethernet header; what is shorter comes from a VM, in the test below.
    for piece in frames.prefixes(whole, 14):
        w.wire.send(piece)
        reason = TO_HOST if len(piece) < 34 else "outer-bad-ip-length"
        expected[reason] = expected.get(reason, 0) + 1
    drops.wait(expected)
    assert not w.tenant.drain()

    payload = header + INNER
    for length in range(len(payload)):
        w.wire.send(sender.wrap(payload[:length], 4789 if encap == "vxlan" else 6081))
        if length < len(header):
            reason = f"{encap}-truncated"
        elif length < len(header) + 14:
            reason = "inner-runt"
        else:
            assert w.tenant.expect(lambda _: True) == payload[len(header):length], f"cut at {length}"
            continue
        expected[reason] = expected.get(reason, 0) + 1
    drops.wait(expected)
    assert not w.tenant.drain()
    w.daemon.assert_no_leak(baseline + 64)


# From a tenant: kind, frame, what becomes of it. Forwarded frames are flooded to both VTEPs.
TENANT: list[tuple[str, bytes, str]] = [
    ("plain", frames.inner_udp("02:00:00:00:00:01", "02:00:00:00:00:02"), FORWARDED),
    ("header only", bytes.fromhex("020000000002 020000000001 0800"), FORWARDED),
    ("source is a group", bytes.fromhex("020000000002 030000000001 0800") + bytes(46), "source-multicast"),
    ("source is broadcast", bytes.fromhex("020000000002 ffffffffffff 0800") + bytes(46), "source-multicast"),
    ("spanning tree", bytes.fromhex("0180c2000000 020000000001 0027") + bytes(46), "reserved-multicast"),
    ("LLDP", bytes.fromhex("0180c200000e 020000000001 88cc") + bytes(46), "reserved-multicast"),
    ("beyond the reserved range", bytes.fromhex("0180c2000010 020000000001 0800") + bytes(46), FORWARDED),
    ("IPv4 header length 0", bytes.fromhex("020000000002 020000000001 0800 40") + bytes(40), FORWARDED),
    ("IPv4 header beyond the frame", bytes.fromhex("020000000002 020000000001 0800 4f") + bytes(25), FORWARDED),
    ("IPv6 header cut short", bytes.fromhex("020000000002 020000000001 86dd 60") + bytes(10), FORWARDED),
    ("zero source", bytes.fromhex("020000000002 000000000000 0800") + bytes(46), FORWARDED),
]


def test_table_of_frames_from_a_tenant(lab: Lab) -> None:
    w = world(lab)
    baseline = w.daemon.in_use()
    wrong: list[str] = []
    for kind, frame, fate in TENANT:
        w.wire.drain()
        drops = DropCount(w.daemon)
        w.tenant.send(frame)
        try:
            if fate == FORWARDED:
                got = [w.wire.expect_tunnel(), w.wire.expect_tunnel()]
                assert {t.encap for t in got} == {"vxlan", "geneve"}
                assert all(t.inner == frame and t.vni == 100 for t in got)
                drops.wait({}, 1)
            else:
                drops.wait({fate: 1}, 2)
        except (AssertionError, RuntimeError) as error:
            wrong.append(f"{kind}: expected {fate}: {error}")
    assert not wrong, "\n".join(wrong)
    w.daemon.assert_no_leak(baseline + 64)


def test_inner_fragments_stay_together(lab: Lab) -> None:
    """Fragments are forwarded, and hashed on addresses only: all of a datagram's take one path in the underlay."""
    w = world(lab)

    def sport(frame: bytes) -> int:
        w.tenant.send(frame)
        got = [w.wire.expect_tunnel(), w.wire.expect_tunnel()]
        assert all(t.inner == frame for t in got)
        assert got[0].sport == got[1].sport
        return got[0].sport

    ether = frames.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    seen = set()
    for port in (1, 2, 3):
        datagram = frames.IP(src="10.0.0.1", dst="10.0.0.2", id=port) / frames.UDP(sport=port, dport=9) / bytes(2000)
        seen |= {sport(bytes(ether / piece)) for piece in frames.fragment(datagram, 600)}
        six = frames.IPv6(src="fd00::1", dst="fd00::2") / frames.IPv6ExtHdrFragment(id=port, m=1, nh=17)
        seen_six = {sport(bytes(ether / six / frames.UDP(sport=port, dport=9) / bytes(64))),
                    sport(bytes(ether / frames.IPv6(src="fd00::1", dst="fd00::2")
                                / frames.IPv6ExtHdrFragment(id=port, offset=9, nh=17) / bytes(64)))}
        assert len(seen_six) == 1
    assert len(seen) == 1, f"fragments between two addresses left with source ports {seen}"


def test_random_damage(lab: Lab) -> None:
    """Thousands of good packets with random damage: whatever becomes of them, weftd lives and all is accounted for."""
    w = world(lab)
    baseline = w.daemon.in_use()
    draw = random.Random(2026)
    good = [build(w.send) for _, build, _ in UNDERLAY] + [frames.arp_request(w.peer_mac, VXLAN_PEER, w.host.address),
                                                          frames.echo_request(w.peer_mac, w.host.mac, VXLAN_PEER, w.host.address)]
    for turn in range(4000):
        frame = bytearray(draw.choice(good))
        for _ in range(draw.randrange(1, 4)):
            # Mostly the headers, and rarely the MAC address, for then the frame is not even looked at.
            at = draw.randrange(0 if draw.random() < 0.05 else 12, min(len(frame), 80))
            frame[at] = draw.randrange(256)
        w.wire.send(bytes(frame[:draw.randrange(14, len(frame) + 1)] if draw.random() < 0.3 else frame))
        if turn % 50 == 0:
            w.tenant.send(draw.randbytes(draw.randrange(14, 1500)))
    w.daemon.assert_books_balance()
    w.daemon.assert_no_leak(baseline + 64)
    w.tenant.drain()
    w.wire.send(w.send.v.vxlan(100, INNER))
    w.tenant.expect(lambda f: f == INNER)


def test_a_vm_sends_frames_of_every_length(lab: Lab) -> None:
    """From a virtio ring come frames that no kernel would send: from 1 byte to more than the MTU."""
    host, wire, mac = site.wire_site(lab)
    host.vtep("g", GENEVE_PEER, "geneve")
    host.bd("web", 100, ["g"])
    path = host.vm_port("vm", "web")
    daemon = host.start()
    wire.send(frames.arp_request(mac, GENEVE_PEER, host.address))
    wire.expect(lambda f: f[20:22] == b"\x00\x02", what="an ARP reply")
    baseline = daemon.in_use()
    whole = frames.inner_udp("02:00:00:00:00:01", "02:00:00:00:00:02", payload=bytes(1472))
    lengths = [*range(1, 100), *range(1400, len(whole) + 1)]
    traffic.write_pcap(lab.path("lengths.pcap"), [whole[:n] for n in lengths])
    drops = DropCount(daemon)
    pmd = testpmd.Testpmd(lab, [f"net_pcap0,rx_pcap={lab.path('lengths.pcap')}", testpmd.virtio_user(0, path)],
                          args=("--no-flush-rx",))
    site.wait_port(daemon, "vm")
    pmd.start("io")
    wait_for(lambda: pmd.stats(1).tx_packets >= len(lengths), 10, "the VM has sent all")
    drops.wait({"runt": 13})
    got = [wire.expect_tunnel().inner for n in lengths if n >= 14]
    assert [len(inner) for inner in got] == [n for n in lengths if n >= 14]
    daemon.assert_no_leak(baseline + 64)
