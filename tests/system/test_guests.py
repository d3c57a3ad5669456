"""Two real VMs on two hosts: QEMU's virtio-net over vhost-user, in both socket modes and both encapsulations."""

from __future__ import annotations

import pytest

from lab import site
from lab.guest import Guest
from lab.proc import Lab

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


@pytest.mark.parametrize("encap", ["geneve", "vxlan"])
@pytest.mark.parametrize("mode", ["server", "client"])
def test_guests_ping_across_hosts(lab: Lab, encap: str, mode: str) -> None:
    """ARP is flooded, so nothing is configured in the guests but their addresses. `mode` is weftd's."""
    hosts = site.pair(lab, encap)
    sockets = [host.vm_port("vm", "web", mode=mode) for host in hosts]
    daemons = [host.start(cores=str(i)) for i, host in enumerate(hosts)]
    baseline = [daemon.in_use() for daemon in daemons]
    guests = [Guest(lab, f"vm{i + 1}", path, mac=MACS[i], ip=f"10.0.0.{i + 1}/24", server=mode == "client")
              for i, path in enumerate(sockets)]
    for guest in guests:
        guest.wait_ready()
    guests[0].wait_ping("10.0.0.2")
    assert guests[0].ping("10.0.0.2", count=5) == 5
    assert guests[1].ping("10.0.0.1", count=5, size=1472) == 5, "a frame of full MTU"
    guests[1].run("iperf3 -s -D")
    report = guests[0].run("iperf3 -c 10.0.0.2 -t 2").output
    assert "receiver" in report, report
    for daemon, before in zip(daemons, baseline, strict=True):
        # Half-filled bursts may stay with the af_packet driver; a leak would grow with the 10,000s of packets above.
        daemon.assert_no_leak(before + 64)


def test_multiqueue_guest(lab: Lab) -> None:
    """A guest with two queue pairs and two CPUs uses both."""
    hosts = site.pair(lab, "geneve")
    path = hosts[0].vm_port("vm", "web", queues=2)
    far = hosts[1].tenant("t0", "web", "10.0.0.2/24", MACS[1])
    daemons = [host.start(cores=str(i)) for i, host in enumerate(hosts)]
    guest = Guest(lab, "vm1", path, mac=MACS[0], ip="10.0.0.1/24", queues=2)
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    port = daemons[0].ctl("port", "list")[0]
    assert port["rings_enabled"] == [0, 1, 2, 3], port
    assert far.ping("10.0.0.1", count=5) == 5
    # Both of the guest's CPUs send, so both of its queues do.
    guest.run("for c in 0 1; do taskset -c $c ping -c 5 -i 0.1 10.0.0.2 >/dev/null & done; wait", timeout=20)
    guest.run("ls -d /sys/class/net/eth0/queues/tx-1")


def test_guest_reset_and_reboot(lab: Lab) -> None:
    """A reset in the middle of traffic: the port goes down and comes back, weftd notices and goes on."""
    hosts = site.pair(lab, "vxlan")
    path = hosts[0].vm_port("vm", "web")
    far = hosts[1].tenant("t0", "web", "10.0.0.2/24", MACS[1])
    daemons = [host.start(cores=str(i)) for i, host in enumerate(hosts)]
    guest = Guest(lab, "vm1", path, mac=MACS[0], ip="10.0.0.1/24")
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    guest.run("ping -i 0.01 10.0.0.2 >/dev/null 2>&1 &")
    guest.qmp("system_reset")
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    assert far.ping("10.0.0.1", count=5) == 5
