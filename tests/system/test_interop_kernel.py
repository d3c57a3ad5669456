"""weftd against the Linux kernel's vxlan device: a VTEP that was written by others."""

from __future__ import annotations

import pytest

from lab import frames, traffic
from lab.netns import Netns
from lab.proc import Lab
from lab.site import Site
from lab.weft import Weft

INNER_MTU = 1500


def world(lab: Lab, *, udp_checksum: bool = False, port: int = 4789) -> tuple[Site, Weft, Netns, Netns]:
    """weftd's tenant 10.0.0.1 and the kernel's address 10.0.0.2 in VNI 100."""
    host, kernel = Site(lab, 1), Netns(lab, "kernel")
    host.underlay(kernel, "under")
    kernel.address("under", "192.168.50.2/24")
    kernel.vxlan("vx0", 100, "192.168.50.2", host.address, under="under", cidr="10.0.0.2/24",
                 mac="02:00:00:00:00:02", mtu=INNER_MTU, udp_checksum=udp_checksum, port=port)
    host.vtep("kernel", "192.168.50.2", "vxlan")
    host.bd("web", 100, ["kernel"])
    if port != 4789:
        host.config["tunnel"] = {"vxlan_port": port}
    tenant = host.tenant("t0", "web", "10.0.0.1/24", "02:00:00:00:00:01")
    return host, host.start(), tenant, kernel


def test_ping_both_ways_and_full_mtu(lab: Lab) -> None:
    """No static neighbour anywhere: both sides resolve each other, and the tenants do through the tunnel."""
    _, daemon, tenant, kernel = world(lab)
    tenant.wait_ping("10.0.0.2")
    assert tenant.ping("10.0.0.2", count=20) == 20
    assert kernel.ping("10.0.0.1", count=20) == 20
    assert tenant.ping("10.0.0.2", count=5, size=INNER_MTU - 28, dont_fragment=True) == 5
    assert kernel.ping("10.0.0.1", count=5, size=INNER_MTU - 28, dont_fragment=True) == 5


def test_the_kernel_can_start(lab: Lab) -> None:
    """The first packet comes from the kernel: weftd answers its ARP and floods the inner one."""
    _, daemon, _, kernel = world(lab)
    kernel.wait_ping("10.0.0.1")
    assert kernel.ping("10.0.0.1", count=10) == 10


def test_iperf_tcp_and_udp(lab: Lab) -> None:
    _, daemon, tenant, kernel = world(lab)
    tenant.wait_ping("10.0.0.2")
    for reverse in (False, True):
        tcp = traffic.iperf3(kernel, tenant, "10.0.0.2", reverse=reverse)
        assert tcp.bits_per_second > 20e6, f"TCP runs at {tcp.bits_per_second / 1e6:.1f} Mbit/s (reverse={reverse})"
        udp = traffic.iperf3(kernel, tenant, "10.0.0.2", udp=True, bitrate="20M", length=1400, reverse=reverse)
        assert udp.packets > 1000
        assert udp.lost_packets <= udp.packets * 0.01, udp


def test_outer_headers_as_the_rfc_says(lab: Lab) -> None:
    host, daemon, tenant, kernel = world(lab)
    wire = kernel.wire("under")
    tenant.wait_ping("10.0.0.2")
    wire.drain()
    tenant.ping("10.0.0.2", count=1)
    outer = wire.expect_tunnel()
    assert (outer.vni, outer.src, outer.dst, outer.dport) == (100, host.address, "192.168.50.2", 4789)
    assert (outer.ttl, outer.dont_fragment, outer.udp_checksum, outer.tos) == (64, True, 0, 0)
    assert 49152 <= outer.sport <= 65535
    assert outer.src_mac == host.mac
    inner = frames.Ether(outer.inner)
    assert inner[frames.IP].src == "10.0.0.1" and frames.ICMP in inner


def test_udp_checksum_from_the_kernel(lab: Lab) -> None:
    """A peer that fills the outer UDP checksum in: it is right, so the packet is taken."""
    _, daemon, tenant, kernel = world(lab, udp_checksum=True)
    tenant.wait_ping("10.0.0.2")
    assert kernel.ping("10.0.0.1", count=5, size=1001) == 5
    assert not daemon.drops().get("outer-bad-udp-checksum")


@pytest.mark.parametrize("port", [8472])
def test_another_destination_port(lab: Lab, port: int) -> None:
    """8472 is what the kernel took before the port was assigned."""
    _, daemon, tenant, kernel = world(lab, port=port)
    tenant.wait_ping("10.0.0.2")
    assert kernel.ping("10.0.0.1", count=5) == 5
