"""weftd as a host on the underlay: ARP, ICMP echo, next hops, waiting packets, and the way to the kernel."""

from __future__ import annotations

import time

from lab import frames, site
from lab.frames import ARP, ICMP, IP, Ether
from lab.netns import Netns, Wire, veth
from lab.proc import Lab, wait_for
from lab.weft import DropCount, Weft

PEER = "192.168.50.2"


def is_arp_request(target: str) -> object:
    return lambda f: f[12:14] == b"\x08\x06" and Ether(f)[ARP].op == 1 and Ether(f)[ARP].pdst == target


def expect_request(wire: Wire, target: str, timeout: float = 3) -> bytes:
    return wire.expect(is_arp_request(target), timeout, f"an ARP request for {target}")  # type: ignore[arg-type]


def reply(wire: Wire, request: bytes, mac: str) -> None:
    asked = Ether(request)[ARP]
    wire.send(bytes(Ether(src=mac, dst=asked.hwsrc) / ARP(op=2, hwsrc=mac, psrc=asked.pdst, hwdst=asked.hwsrc,
                                                          pdst=asked.psrc) / frames.Raw(bytes(18))))


def overlay(lab: Lab, **uplink: object) -> tuple[site.Site, Wire, str, Wire]:
    """A host with one raw tenant in a network with one remote VTEP, and the test on its wire."""
    host, wire, mac = site.wire_site(lab, **uplink)
    host.vtep("peer", PEER, "vxlan")
    host.bd("web", 100, ["peer"])
    return host, wire, mac, host.raw_port("t0", "web")


def test_answers_arp_for_its_address_only(lab: Lab) -> None:
    host, wire, mac, _ = overlay(lab)
    host.start()
    wire.send(frames.arp_request(mac, PEER, host.address))
    answer = Ether(wire.expect(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02", what="an ARP reply"))
    assert (answer.dst, answer.src) == (mac, host.mac)
    assert (answer[ARP].hwsrc, answer[ARP].psrc) == (host.mac, host.address)
    assert (answer[ARP].hwdst, answer[ARP].pdst) == (mac, PEER)
    wire.drain()
    wire.send(frames.arp_request(mac, PEER, "192.168.50.77"))
    assert not [f for f in wire.collect(0.5) if f[20:22] == b"\x00\x02"]


def is_announcement(frame: bytes, host: site.Site) -> bool:
    """An ARP request for one's own address, to everyone (RFC 5227 section 2.3)."""
    if not is_arp_request(host.address)(frame):  # type: ignore[operator]
        return False
    arp = Ether(frame)[ARP]
    return (Ether(frame).dst, arp.psrc, arp.hwsrc) == (frames.BROADCAST, host.address, host.mac)


def wait_alarms(daemon: Weft) -> list[str]:
    wait_for(lambda: daemon.ctl("status")["alarms"], 3, "an alarm")
    return list(daemon.ctl("status")["alarms"])


def test_announces_its_address(lab: Lab) -> None:
    """So that nobody goes on sending to a MAC that had the address before."""
    host, wire, _, _ = overlay(lab)
    daemon = host.start()
    for _ in range(2):
        wire.expect(lambda f: is_announcement(f, host), timeout=5, what="an announcement")
    assert not [f for f in wire.collect(3) if is_announcement(f, host)], "twice, and no more"
    assert daemon.ctl("status")["alarms"] == []


def test_a_flood_of_echo_requests(lab: Lab) -> None:
    """Answered at a bounded rate, the rest dropped by name; afterwards everything is as before."""
    host, wire, mac, _ = overlay(lab)
    daemon = host.start()
    drops = DropCount(daemon)
    request = frames.echo_request(mac, host.mac, PEER, host.address)
    for _ in range(20):
        wire.send(*[request] * 200)
    wait_for(lambda: drops.now().get("echo-rate-limit", 0) > 0, 5, "some are not answered")
    time.sleep(0.3)
    wire.drain()
    wire.send(request)
    wire.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0, what="an echo reply")


def test_answers_echo(lab: Lab) -> None:
    host, wire, mac, _ = overlay(lab)
    daemon = host.start()
    for size in (0, 1, 56, 1400):
        wire.send(frames.echo_request(mac, host.mac, PEER, host.address, size=size, sequence=size))
        answer = Ether(wire.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0, what="an echo reply"))
        assert (answer.src, answer.dst, answer[IP].src, answer[IP].dst) == (host.mac, mac, host.address, PEER)
        assert answer[ICMP].seq == size
        checked = answer[IP].copy()
        checked.chksum = checked[ICMP].chksum = None
        again = IP(bytes(checked))
        assert (again.chksum, again[ICMP].chksum) == (answer[IP].chksum, answer[ICMP].chksum)
    assert daemon.books().consumed >= 4


def test_a_kernel_pings_the_vtep(lab: Lab) -> None:
    """With nothing configured but the kernel's own address."""
    host, kernel = site.Site(lab, 1), Netns(lab, "kernel")
    host.underlay(kernel, "eth0")
    host.bd("web", None)
    kernel.address("eth0", f"{PEER}/24")
    host.start()
    kernel.wait_ping(host.address)
    assert kernel.ping(host.address, count=10) == 10


def test_resolves_and_sends_what_waited(lab: Lab) -> None:
    host, wire, mac, tenant = overlay(lab)
    daemon = host.start()
    wire.drain()
    sent = [frames.inner_udp(payload=b"%04d" % i) for i in range(5)]
    tenant.send(*sent)
    wait_for(lambda: daemon.books().held + daemon.books().sent >= 1, 3, "frames wait")
    request = expect_request(wire, PEER)
    assert Ether(request).dst == frames.BROADCAST and Ether(request)[ARP].psrc == host.address
    reply(wire, request, mac)
    got = [wire.expect_tunnel() for _ in sent]
    assert [t.inner for t in got] == sent, "waiting frames come out in order"
    assert all(t.dst_mac == mac for t in got)

    def neighbour() -> tuple[str | None, str]:
        return next((n["mac"], n["state"]) for n in daemon.ctl("neigh", "list") if n["ip"] == PEER)

    # What is shown is refreshed every 20 ms.
    wait_for(lambda: neighbour() == (mac, "reachable"), 1, "the neighbour is shown as reachable")
    assert next(v for v in daemon.ctl("vtep", "list") if v["name"] == "peer")["resolved"]


def test_asks_again_and_bounds_what_waits(lab: Lab) -> None:
    """Nobody answers: requests are repeated, the queue stays small, what does not fit is dropped by name."""
    host, wire, _, tenant = overlay(lab)
    daemon = host.start()
    baseline = daemon.in_use()
    drops = DropCount(daemon)
    for _ in range(20):
        tenant.send(*[frames.inner_udp()] * 50)
        time.sleep(0.01)
    wait_for(lambda: sum(drops.now().values()) > 500, 5, "most frames are dropped")
    assert set(drops.now()) <= {"neighbor-queue-full", "neighbor-unresolved", "punt-full"}, drops.now()
    assert daemon.books().held <= 256
    expect_request(wire, PEER)
    expect_request(wire, PEER, timeout=5)
    wait_for(lambda: daemon.books().held == 0, 20, "weftd gives the waiting frames up", step=0.2)
    assert drops.now().get("neighbor-unresolved", 0) > 0
    assert not [f for f in wire.drain() if frames.decode_tunnel(f)]
    daemon.assert_no_leak(baseline + 64)


def test_comes_back_when_the_peer_does(lab: Lab) -> None:
    """A peer that did not answer at first is found later without anybody's help."""
    host, wire, mac, tenant = overlay(lab)
    host.start()
    tenant.send(frames.inner_udp())
    expect_request(wire, PEER)

    def through() -> bool:
        tenant.send(frames.inner_udp())
        for frame in wire.collect(0.2):
            if is_arp_request(PEER)(frame):  # type: ignore[operator]
                reply(wire, frame, mac)
            elif frames.decode_tunnel(frame):
                return True
        return False

    time.sleep(2)
    wait_for(through, 10, "frames reach the peer")


def test_a_peer_that_moves(lab: Lab) -> None:
    """The peer's address answers from another MAC (a failover): its gratuitous ARP or request is believed."""
    host, wire, mac, tenant = overlay(lab)
    host.start()
    tenant.send(frames.inner_udp())
    reply(wire, expect_request(wire, PEER), mac)
    assert wire.expect_tunnel().dst_mac == mac
    moved = "02:aa:00:00:00:fd"
    wire.send(frames.arp_request(moved, PEER, host.address))

    def arrives() -> bool:
        # It was said within a second of the first answer, too soon to be believed at once: weftd asks again.
        for frame in wire.collect(0.1):
            if is_arp_request(PEER)(frame):  # type: ignore[operator]
                reply(wire, frame, moved)
        tenant.send(frames.inner_udp())
        return wire.expect_tunnel().dst_mac == moved

    wait_for(arrives, 5, "frames go to the new MAC")


def test_an_impostor_of_our_address(lab: Lab) -> None:
    """Somebody else claims the VTEP's address: counted, and weftd keeps answering for it."""
    host, wire, mac, _ = overlay(lab)
    daemon = host.start()
    drops = DropCount(daemon)
    wire.send(frames.arp_request("02:aa:00:00:00:66", host.address, host.address))
    drops.wait({"arp-invalid": 1})
    wire.expect(lambda f: is_announcement(f, host), what="weftd says whose the address is")
    assert any("02:aa:00:00:00:66" in a and host.address in a for a in wait_alarms(daemon)), wait_alarms(daemon)
    wire.send(frames.arp_request(mac, PEER, host.address))
    wire.expect(lambda f: f[20:22] == b"\x00\x02" and f[22:28] == bytes.fromhex(host.mac.replace(":", "")))


def test_through_a_gateway(lab: Lab) -> None:
    """A VTEP outside the subnet: the gateway is resolved, and routes the packets to it and back."""
    host, router, far = site.Site(lab, 1, gateway="192.168.50.254"), Netns(lab, "router"), Netns(lab, "far")
    host.underlay(router, "near")
    veth(router, "far", far, "under", mtu=site.UNDERLAY_MTU)
    router.address("near", "192.168.50.254/24")
    router.address("far", "172.16.0.1/24")
    router.sysctl("net.ipv4.ip_forward", 1)
    far.address("under", "172.16.0.2/24")
    far.ip("route", "add", "default", "via", "172.16.0.1")
    far.vxlan("vx0", 100, "172.16.0.2", host.address, under="under", cidr="10.0.0.2/24", mtu=1500)
    host.vtep("far", "172.16.0.2", "vxlan")
    host.bd("web", 100, ["far"])
    tenant = host.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    daemon = host.start()
    tenant.wait_ping("10.0.0.2")
    assert far.ping("10.0.0.1", count=5) == 5
    vtep = next(v for v in daemon.ctl("vtep", "list") if v["name"] == "far")
    assert (vtep["next_hop"], vtep["resolved"]) == ("192.168.50.254", True)


def test_the_kernel_stays_reachable(lab: Lab) -> None:
    """The host's own address lives on the TAP: others reach it, and it reaches others, beside the overlay."""
    host, peer = site.Site(lab, 1, tap="weft-up0"), Netns(lab, "peer")
    host.underlay(peer, "eth0")
    host.bd("web", None)
    peer.address("eth0", f"{PEER}/24")
    daemon = host.start()
    wait_for(lambda: any(link["ifname"] == "weft-up0" for link in host.ns.ip_json("link", "show")), 5, "the TAP is there")
    host.ns.address("weft-up0", "192.168.50.101/24")
    host.ns.ip("link", "set", "weft-up0", "up")
    peer.wait_ping("192.168.50.101")
    assert peer.ping("192.168.50.101", count=10) == 10
    assert host.ns.ping(PEER, count=10) == 10
    assert peer.ping(host.address, count=3) == 3, "the VTEP's address answers, too"
    listener = host.ns.spawn(["iperf3", "-s", "-1"], name="iperf3-server")
    wait_for(lambda: ":5201" in host.ns.run("ss", "-Hltn"), 5, "iperf3 listens")
    peer.run("iperf3", "-c", "192.168.50.101", "-n", "2M", timeout=30)
    listener.wait(5)
    assert not daemon.drops().get("exception-no-tap")


def test_the_way_to_the_kernel_is_rate_limited(lab: Lab) -> None:
    """A flood for the kernel is cut at exception_pps, and weftd still answers ARP in the middle of it."""
    host, wire, mac = site.wire_site(lab, tap="weft-up0", exception_pps=100)
    host.bd("web", None)
    daemon = host.start()
    drops = DropCount(daemon)
    stray = bytes(Ether(src=mac, dst=host.mac) / IP(src=PEER, dst=host.address) / frames.UDP(sport=1, dport=9) / bytes(20))
    for _ in range(20):
        wire.send(*[stray] * 50)
        time.sleep(0.01)
    wire.send(frames.arp_request(mac, PEER, host.address))
    wire.expect(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02", what="an ARP reply")
    wait_for(lambda: drops.now().get("exception-rate-limit", 0) >= 700, 3, "the flood is limited")
    assert set(drops.now()) <= {"exception-rate-limit", "exception-tap-full", "punt-full"}, drops.now()
