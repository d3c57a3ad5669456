"""Crashes: a VM's process or weftd itself is killed with SIGKILL; what comes back works, and nobody else notices."""

from __future__ import annotations

import time

import pytest

from lab import seqgen, site, testpmd
from lab.guest import Guest
from lab.netns import Netns, veth
from lab.proc import Lab, wait_for
from lab.seqgen import Flow, SeqGen
from lab.weft import Weft, weftd

MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 5)]
LIMIT = 1.0  # seconds from "driver ready" to "forwarding again"


def polite_pair(lab: Lab, host: site.Site) -> list[str]:
    """Two VMs whose packets are counted while another one crashes; returns their devices."""
    vdevs = []
    for i in (0, 1):
        path = host.vm_port(f"vm{i}", "web")
        vdevs.append(testpmd.virtio_user(i, path, mac=MACS[i], queue_size=1024))
        host.fdb("web", MACS[i], port=f"vm{i}")
    return vdevs


def polite_flows() -> list[Flow]:
    return [Flow(tx=i, rx=1 - i, src=MACS[i], dst=MACS[1 - i], pps=10_000) for i in (0, 1)]


@pytest.mark.parametrize("mode", ["server", "client"])
def test_testpmd_is_killed(lab: Lab, own_core: int, mode: str) -> None:
    """The victim mirrors the third flow; `mode` is weftd's."""
    host = site.local_site(lab)
    vdevs = polite_pair(lab, host)
    vdevs.append(testpmd.virtio_user(2, host.vm_port("asker", "web"), mac=MACS[2], queue_size=1024))
    host.fdb("web", MACS[2], port="asker")
    path = host.vm_port("victim", "web", mode=mode)
    host.fdb("web", MACS[3], port="victim")
    daemon = host.start(cores="0")
    asking = Flow(tx=2, rx=2, src=MACS[2], dst=MACS[3], pps=2_000, must_arrive=False)
    victim_vdev = testpmd.virtio_user(0, path, mac=MACS[3], server=mode == "client", queue_size=1024)

    def victim() -> testpmd.Testpmd:
        pmd = testpmd.Testpmd(lab, [victim_vdev], cores=(0,), name="victim")
        if mode == "client":
            wait_for(pmd.link_up, 10, "weftd connects to the VM")
        pmd.start("macswap")
        return pmd

    generator = SeqGen(lab, vdevs, [*polite_flows(), asking], core=own_core)
    with generator.sending() as run:
        for _ in range(3):
            vm = victim()
            ready = time.monotonic()
            before = generator.stats().flows[2].received
            wait_for(lambda before=before: generator.stats().flows[2].received > before + 5, LIMIT * 5, "mirrored packets")
            took = time.monotonic() - ready
            assert took < LIMIT, f"forwarding again after {took:.2f} s"
            vm.kill()
            wait_for(lambda: not daemon.ctl("port", "show", "victim")["connected"], 5, "weftd notices")
            if mode == "client":
                path.unlink(missing_ok=True)
    polite = run.result
    assert polite.flows[0].sent > 5_000
    # At this rate the rings hold 100 ms of packets: no pause of the generator can explain a loss.
    assert (polite.lost, polite.misordered) == (0, 0), (polite, daemon.drops())
    assert daemon.drops().get("port-not-ready", 0) > 0, "what was sent to the dead VM has a name"


@pytest.mark.parametrize("mode", ["server", "client"])
def test_qemu_is_killed(lab: Lab, own_core: int, mode: str) -> None:
    host = site.local_site(lab)
    vdevs = polite_pair(lab, host)
    path = host.vm_port("victim", "web", mode=mode)
    tenant = host.tenant("t0", "web", "10.0.0.2/24", MACS[3])
    daemon = host.start(cores="0")
    generator = SeqGen(lab, vdevs, polite_flows(), core=own_core)
    guest = Guest(lab, "victim", path, mac=MACS[2], ip="10.0.0.1/24", server=mode == "client")
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    with generator.sending() as run:
        guest.run("ping -i 0.01 10.0.0.2 >/dev/null 2>&1 &")
        guest.kill()
        if mode == "client":
            path.unlink(missing_ok=True)
        guest.start()
        guest.wait_ready()
        took = guest.wait_ping("10.0.0.2")
        assert took < LIMIT, f"forwarding again after {took:.2f} s"
        assert tenant.ping("10.0.0.1", count=3) == 3
    polite = run.result
    assert polite.flows[0].sent > 5_000
    # At this rate the rings hold 100 ms of packets: no pause of the generator can explain a loss.
    assert (polite.lost, polite.misordered) == (0, 0), (polite, daemon.drops())


def test_crash_at_any_moment(lab: Lab) -> None:
    """A VM's process is killed again and again, at moments spread over its whole start and in full traffic."""
    host = site.local_site(lab)
    path = host.vm_port("victim", "web")
    tenant = host.tenant("t0", "web", "10.0.0.2/24", MACS[1])
    other = host.tenant("t1", "web", "10.0.0.3/24", MACS[2])
    daemon = host.start(cores="0")
    baseline = daemon.in_use()
    tenant.wait_ping("10.0.0.3")
    for delay in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0):
        flow = Flow(tx=0, rx=0, src=MACS[0], dst="ff:ff:ff:ff:ff:ff", pps=0, must_arrive=False)
        proc = seqgen.spawn(lab, [testpmd.virtio_user(0, path)], [flow])
        assert proc.popen.stdin
        proc.popen.stdin.write(b"start\n")
        proc.popen.stdin.flush()
        time.sleep(delay)
        proc.kill()
    assert other.ping("10.0.0.2", count=5) == 5
    generator = SeqGen(lab, [testpmd.virtio_user(0, path, mac=MACS[0])],
                       [Flow(tx=0, rx=0, src=MACS[0], dst="02:00:00:00:00:77", pps=1000, must_arrive=False)])
    before = tenant.counters("eth0")["rx"]["packets"]
    generator.send_for(0.5)
    assert tenant.counters("eth0")["rx"]["packets"] > before + 200, "the VM's frames are flooded again"
    generator.close()
    daemon.assert_no_leak(baseline + 64)


def test_weftd_is_killed(lab: Lab) -> None:
    """Its sockets are left behind; the next weftd replaces them, and the guest's QEMU connects again."""
    host = site.local_site(lab)
    path = host.vm_port("vm", "web")
    tenant = host.tenant("t0", "web", "10.0.0.2/24", MACS[1])
    daemon = host.start(cores="0")
    guest = Guest(lab, "vm", path, mac=MACS[0], ip="10.0.0.1/24")
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    for _ in range(2):
        daemon.proc.kill()
        assert path.exists() and daemon.socket.exists(), "a crash leaves sockets behind; else this test shows nothing"
        daemon.start()
        # QEMU tries once a second.
        guest.wait_ping("10.0.0.2", timeout=10)
        assert tenant.ping("10.0.0.1", count=3) == 3


def test_a_live_socket_is_not_taken(lab: Lab) -> None:
    """A second weftd with the same sockets gives up and says why; the first goes on."""
    host = site.local_site(lab)
    host.vm_port("vm", "web")
    first = host.start(cores="0")
    elsewhere = Netns(lab, "elsewhere")
    veth_peer = Netns(lab, "elsewhere-peer")
    veth(elsewhere, "up0", veth_peer, "eth0", mtu=site.UNDERLAY_MTU)
    second = Weft(lab, elsewhere, host.config, name="second", cores="0", start=False)
    proc = elsewhere.spawn([weftd(), "--config", second.file], name="second")
    code = proc.wait(20)
    assert code not in (0, None)
    assert "vm-1.sock" in proc.tail(), proc.tail()
    assert first.ctl("status")["ports"] == 1
