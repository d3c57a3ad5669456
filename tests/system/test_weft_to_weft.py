"""weftd to weftd: all of a host's kinds of tenants, both encapsulations, and mixed ones in one network."""

from __future__ import annotations

import pytest

from lab import frames, site, traffic
from lab.netns import Netns, veth
from lab.proc import Lab, run


@pytest.mark.parametrize("encap", ["geneve", "vxlan"])
def test_two_hosts(lab: Lab, encap: str) -> None:
    a, b = site.pair(lab, encap)
    left = a.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    right = b.tenant("t0", "web", "10.0.0.2/24", "02:00:00:00:00:02")
    daemons = a.start(cores="0"), b.start(cores="1")
    left.wait_ping("10.0.0.2")
    assert left.ping("10.0.0.2", count=20) == 20
    assert right.ping("10.0.0.1", count=5, size=1472, dont_fragment=True) == 5
    assert traffic.iperf3(right, left, "10.0.0.2").bits_per_second > 20e6


def test_static_fdb_keeps_unicast_off_other_hosts(lab: Lab) -> None:
    """Known unicast goes to its VTEP only; broadcast goes to all; nothing from a tunnel goes to a tunnel."""
    switch = Netns(lab, "underlay")
    switch.ip("link", "add", "br0", "mtu", str(site.UNDERLAY_MTU), "type", "bridge")
    switch.ip("link", "set", "br0", "up")
    hosts = [site.Site(lab, n) for n in (1, 2, 3)]
    for host in hosts:
        veth(host.ns, "up0", switch, f"h{host.number}", mtu=site.UNDERLAY_MTU, a_mac=host.mac)
        switch.ip("link", "set", f"h{host.number}", "master", "br0")
        others = [other for other in hosts if other is not host]
        for other in others:
            host.vtep(f"host{other.number}", other.address, "geneve" if other.number + host.number == 3 else "vxlan")
        host.bd("web", 100, [f"host{other.number}" for other in others])
    tenants = [host.tenant("t0", "web", f"10.0.0.{host.number}/24", f"02:00:00:00:00:0{host.number}") for host in hosts]
    hosts[0].fdb("web", "02:00:00:00:00:02", vtep="host2")
    hosts[0].fdb("web", "02:00:00:00:00:01", port="t0")
    hosts[1].fdb("web", "02:00:00:00:00:01", vtep="host1")
    daemons = [host.start(cores=str(host.number % 2)) for host in hosts]
    for target in (2, 3):
        tenants[0].wait_ping(f"10.0.0.{target}")
    bystander = tenants[2].wire("eth0")
    bystander.drain()
    assert tenants[0].ping("10.0.0.2", count=5) == 5
    icmp = [f for f in bystander.collect(0.3) if frames.IP in frames.Ether(f)]
    assert not icmp, "known unicast reached a host that it was not for"
    tenants[0].run("ip", "neigh", "flush", "all")
    tenants[0].wait_ping("10.0.0.2")
    arps = [f for f in bystander.collect(0.3) if f[12:14] == b"\x08\x06"]
    assert arps, "a broadcast did not reach every host"
    assert tenants[1].ping("10.0.0.3", count=3) == 3


def test_a_lower_underlay_mtu_is_named(lab: Lab) -> None:
    """What does not fit the underlay is dropped under a reason that says what to do."""
    a, b = site.pair(lab, "geneve", mtu=1500)
    left = a.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    b.tenant("t0", "web", "10.0.0.2/24", "02:00:00:00:00:02")
    daemons = a.start(cores="0"), b.start(cores="1")
    left.wait_ping("10.0.0.2")
    # 1,500 - 50 bytes of outer headers (20 IPv4, 8 UDP, 8 GENEVE, 14 inner Ethernet) leave 1,450 for inner IP.
    assert left.ping("10.0.0.2", count=2, size=1450 - 28, dont_fragment=True) == 2
    before = daemons[0].drops().get("exceeds-underlay-mtu", 0)
    assert left.ping("10.0.0.2", count=2, size=1451 - 28, dont_fragment=True, wait=0.3) == 0
    assert daemons[0].drops().get("exceeds-underlay-mtu", 0) == before + 2


def test_many_flows_spread_over_source_ports(lab: Lab) -> None:
    """Entropy for the underlay's ECMP: flows differ in the outer source port, and one flow keeps its own."""
    host, wire, peer_mac = site.wire_site(lab)
    host.vtep("peer", "192.168.50.2", "geneve")
    host.bd("web", 100, ["peer"])
    tenant = host.raw_port("t0", "web")
    daemon = host.start()
    wire.send(frames.arp_request(peer_mac, "192.168.50.2", host.address))
    wire.expect(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02", what="weftd's ARP reply")

    def source_port(sport: int) -> int:
        tenant.send(frames.inner_udp(sport=sport))
        return wire.expect_tunnel().sport

    ports = [source_port(1000 + i) for i in range(64)]
    assert len(set(ports)) > 48, "flows share source ports"
    assert all(49152 <= port <= 65535 for port in ports)
    assert source_port(1000) == ports[0]


def test_decoded_by_tshark(lab: Lab) -> None:
    """A dissector that shares no code with weft finds the tenant's ping in the packet."""
    a, b = site.pair(lab, "geneve")
    left = a.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    b.tenant("t0", "web", "10.0.0.2/24", "02:00:00:00:00:02")
    daemons = a.start(cores="0"), b.start(cores="1")
    left.wait_ping("10.0.0.2")
    with traffic.capture(b.ns, "up0", lab.path("underlay.pcap")) as pcap:
        assert left.ping("10.0.0.2", count=3) == 3
    rows = traffic.tshark_fields(pcap, "icmp.type == 8", "ip.src", "udp.dstport", "geneve.vni", "eth.src")
    assert len(rows) == 3, run(["tshark", "-n", "-r", pcap], check=False).stdout
    assert rows[0] == [["192.168.50.1", "10.0.0.1"], ["6081"], ["0x000064"], ["02:aa:00:00:00:01", "02:00:00:00:00:01"]]
    bad = traffic.tshark_fields(pcap, "_ws.malformed || ip.checksum.status == \"Bad\"", "frame.number")
    assert not bad
