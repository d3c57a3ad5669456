"""The laboratory proves itself without weftd: guests, peers and tools work among each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import frames, seqgen, testpmd
from lab.guest import Guest
from lab.netns import Netns, veth
from lab.ovs import Ovs
from lab.proc import Lab, wait_for

TESTS = Path(__file__).resolve().parent.parent


def test_kernel_vxlan_to_kernel_vxlan(lab: Lab) -> None:
    a, b = Netns(lab, "a"), Netns(lab, "b")
    veth(a, "under", b, "under", mtu=1600)
    for ns, own, other in ((a, 1, 2), (b, 2, 1)):
        ns.address("under", f"192.168.50.{own}/24")
        ns.vxlan("vx0", 100, f"192.168.50.{own}", f"192.168.50.{other}", under="under", cidr=f"10.0.0.{own}/24")
    a.wait_ping("10.0.0.2")
    assert b.ping("10.0.0.1", count=3, size=1472, dont_fragment=True) == 3


@pytest.mark.parametrize("encap", ["vxlan", "geneve"])
def test_ovs_tunnel_to_peer(lab: Lab, encap: str) -> None:
    """VXLAN against the kernel; GENEVE against a second OVS, as this host's kernel has no geneve."""
    host, peer, tenant = Netns(lab, "ovs"), Netns(lab, "peer"), Netns(lab, "tenant")
    veth(host, "under", peer, "under", mtu=1600)
    veth(host, "t0", tenant, "eth0", mtu=1500)
    tenant.address("eth0", "10.0.0.1/24")
    switch = Ovs(lab, host)
    switch.underlay("under", "192.168.50.1/24")
    switch.port("t0")
    switch.tunnel("tun0", encap, "192.168.50.2", 100)
    if encap == "vxlan":
        peer.address("under", "192.168.50.2/24")
        peer.vxlan("vx0", 100, "192.168.50.2", "192.168.50.1", under="under", cidr="10.0.0.2/24")
    else:
        far = Netns(lab, "far")
        veth(peer, "t0", far, "eth0", mtu=1500)
        far.address("eth0", "10.0.0.2/24")
        second = Ovs(lab, peer)
        second.underlay("under", "192.168.50.2/24")
        second.port("t0")
        second.tunnel("tun0", encap, "192.168.50.1", 100)
    tenant.wait_ping("10.0.0.2")
    assert tenant.ping("10.0.0.2", count=3, size=1472, dont_fragment=True) == 3


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_guests_over_testpmd(lab: Lab, server: bool) -> None:
    """Two VMs joined by testpmd's vhost driver, which stands where weftd will stand."""
    sockets = [lab.path("a.sock"), lab.path("b.sock")]
    vdevs = [testpmd.vhost(i, s, client=server) for i, s in enumerate(sockets)]
    guests = []

    def boot() -> None:
        for i, path in enumerate(sockets):
            guests.append(Guest(lab, f"vm{i + 1}", path, mac=f"02:00:00:00:00:0{i + 1}", ip=f"10.0.0.{i + 1}/24",
                                server=server))

    # Before the guests in both modes: testpmd's vhost client waits for the socket, and its `start` can hang if a guest's
    # rings come up in the middle of it.
    back_end = testpmd.Testpmd(lab, vdevs, cores=(1,))
    back_end.start("io")
    boot()
    for guest in guests:
        guest.wait_ready()
    guests[0].wait_ping("10.0.0.2")
    assert guests[1].ping("10.0.0.1", count=3, size=1472) == 3
    assert guests[0].run("exit 7", check=False).status == 7
    assert guests[0].qmp("query-status")["running"]


def test_testpmd_vm_counts(lab: Lab) -> None:
    path = lab.path("vm.sock")
    back_end = testpmd.Testpmd(lab, [testpmd.vhost(0, path, queues=2)], cores=(0,), queues=2, name="back")
    vm = testpmd.Testpmd(lab, [testpmd.virtio_user(0, path, mac="02:00:00:00:00:01", queues=2)], queues=2, name="vm")
    assert vm.mac() == "02:00:00:00:00:01"
    back_end.start("macswap")
    vm.start("txonly")
    wait_for(lambda: back_end.stats().rx_packets > 10_000, 10, "the back-end receives")
    assert vm.rates().tx_pps > 10_000
    vm.stop_forwarding()


def test_sequence_generator_sees_every_packet_and_every_loss(lab: Lab) -> None:
    """The measuring tool itself: nothing lost over a wire that loses nothing, losses seen on one that does."""
    path = lab.path("vm.sock")
    back_end = testpmd.Testpmd(lab, [testpmd.vhost(0, path)], cores=(0,), name="back")
    back_end.start("io")
    flow = seqgen.Flow(tx=0, rx=0, src="02:00:00:00:00:01", dst="02:00:00:00:00:02", pps=20_000)
    with seqgen.SeqGen(lab, [testpmd.virtio_user(0, path)], [flow]) as generator:
        generator.send_for(0.2)  # the first packets wait for both sides' rings
        with generator.sending() as run:
            wait_for(lambda: generator.stats().flows[0].received > 8_000, 10, "packets come back")
        assert (run.result.lost, run.result.misordered, run.result.misdelivered) == (0, 0, 0)
        assert run.result.flows[0].sent > 2_000
        assert generator.capacity(0, 0.5) > 100_000
        back_end.stop_forwarding()
        back_end.start("rxonly")
        done = generator.send_for(0.5)
        assert done.lost == done.flows[0].sent > 1_000


def test_raw_wire_keeps_vlan_tags(lab: Lab) -> None:
    a, b = Netns(lab, "a"), Netns(lab, "b")
    veth(a, "eth0", b, "eth0")
    sender, receiver = a.wire("eth0"), b.wire("eth0")
    for frame in (frames.inner_udp(vlans=[5]), frames.inner_udp(vlans=[5, 6]), frames.inner_udp()):
        sender.send(frame)
        assert receiver.expect(lambda f: f[:12] == frame[:12]) == frame


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM take everything down; SIGKILL cannot, but the processes die with it all the same."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from lab.proc import Lab, handle_signals; from lab.netns import Netns\n"
        "handle_signals()\n"
        "with Lab() as lab:\n"
        "    ns = Netns(lab, 'x'); p = ns.spawn(['sleep', '1000'])\n"
        "    print(p.pid, ns.name, lab.dir, flush=True); time.sleep(1000)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(TESTS)], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    assert run.stdout
    pid, namespace, directory = run.stdout.readline().split()
    run.send_signal(number)
    run.wait(10)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 5, "the child is gone")
    left = Path(f"/run/netns/{namespace}").exists() or Path(directory).exists()
    if number == signal.SIGKILL:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
        subprocess.run(["rm", "-r", directory], check=True)
    else:
        assert not left
        assert os.path.basename(directory).startswith("weft-")
