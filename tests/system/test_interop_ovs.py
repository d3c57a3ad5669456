"""weftd against Open vSwitch's userspace datapath, over GENEVE and over VXLAN."""

from __future__ import annotations

import pytest

from lab import traffic
from lab.netns import Netns, veth
from lab.ovs import Ovs
from lab.proc import Lab
from lab.site import Site


@pytest.mark.parametrize("encap", ["geneve", "vxlan"])
def test_ping_and_iperf(lab: Lab, encap: str) -> None:
    host, peer, far = Site(lab, 1), Netns(lab, "ovs"), Netns(lab, "far")
    host.underlay(peer, "under")
    veth(peer, "t0", far, "eth0", b_mac="02:00:00:00:00:02")
    far.address("eth0", "10.0.0.2/24")
    switch = Ovs(lab, peer)
    switch.underlay("under", "192.168.50.2/24")
    switch.port("t0")
    switch.tunnel("tun0", encap, host.address, 100)
    host.vtep("ovs", "192.168.50.2", encap)
    host.bd("web", 100, ["ovs"])
    tenant = host.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    daemon = host.start()
    tenant.wait_ping("10.0.0.2")
    assert tenant.ping("10.0.0.2", count=10) == 10
    assert far.ping("10.0.0.1", count=10) == 10
    assert far.ping("10.0.0.1", count=3, size=1472, dont_fragment=True) == 3
    assert tenant.ping("10.0.0.2", count=3, size=1472, dont_fragment=True) == 3
    tcp = traffic.iperf3(far, tenant, "10.0.0.2")
    assert tcp.bits_per_second > 10e6, tcp
    udp = traffic.iperf3(far, tenant, "10.0.0.2", udp=True, bitrate="10M", length=1400)
    assert udp.packets > 500 and udp.lost_packets <= udp.packets * 0.01, udp
