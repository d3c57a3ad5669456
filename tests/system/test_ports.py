"""Local ports: virtio-user over split and packed rings, memif, what is offered to guests, and fair shares."""

from __future__ import annotations

import re

import pytest

from lab import seqgen, site, testpmd, vhostproto
from lab.guest import Guest
from lab.proc import Lab, wait_for
from lab.weft import Weft

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


def two_vms(lab: Lab, *, queues: int, packed: bool, mode: str = "server") -> tuple[Weft, list[str]]:
    """Two virtio-user devices in one local network, each in the FDB; returns the devices' arguments."""
    host = site.local_site(lab)
    vdevs = []
    for i, mac in enumerate(MACS):
        path = host.vm_port(f"vm{i}", "web", mode=mode, queues=queues, packed=packed)
        host.fdb("web", mac, port=f"vm{i}")
        vdevs.append(testpmd.virtio_user(i, path, mac=mac, queues=queues, packed=packed, queue_size=1024,
                                         server=mode == "client"))
    return host.start(cores="0"), vdevs


@pytest.mark.parametrize("queues", [1, 2])
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_virtio_user(lab: Lab, packed: bool, queues: int) -> None:
    """Many flows between two VMs use every queue; the negotiated feature word is what was configured."""
    daemon, vdevs = two_vms(lab, queues=queues, packed=packed)
    vm = testpmd.Testpmd(lab, vdevs, queues=queues)
    for name in ("vm0", "vm1"):
        site.wait_port(daemon, name)
        port = daemon.ctl("port", "show", name)
        port = port[0] if isinstance(port, list) else port
        features = int(port["features"], 16)
        assert vhostproto.has(features, vhostproto.RING_PACKED) == packed, port
        assert vhostproto.has(features, vhostproto.VERSION_1) and vhostproto.has(features, vhostproto.MRG_RXBUF)
        assert not [bit for bit in vhostproto.OFFLOADS if vhostproto.has(features, bit)], port["features"]
        assert port["rings_enabled"] == list(range(2 * queues)), port
    for port_number, peer in enumerate(reversed(MACS)):
        vm.cmd(f"set eth-peer {port_number} {peer}")
    vm.start("flowgen")
    before = [vm.stats(i) for i in (0, 1)]
    wait_for(lambda: all(vm.stats(i).rx_packets > before[i].rx_packets + 20_000 for i in (0, 1)), 15,
             "both VMs receive")
    vm.stop_forwarding()
    for i in (0, 1):
        per_queue = [int(n) for n in re.findall(r"rx_q\d+_(?:good_)?packets: (\d+)", vm.cmd(f"show port xstats {i}"))]
        assert sum(n > 0 for n in per_queue) == queues, per_queue


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_no_packet_lost_between_vms(lab: Lab, own_core: int, packed: bool) -> None:
    daemon, vdevs = two_vms(lab, queues=1, packed=packed)
    flows = [seqgen.Flow(tx=i, rx=1 - i, src=MACS[i], dst=MACS[1 - i], pps=20_000, size=size)
             for i, size in ((0, 64), (1, 1514))]
    generator = seqgen.SeqGen(lab, vdevs, flows, core=own_core)
    result = generator.send_for(2)
    assert result.received > 50_000
    assert (result.lost, result.misdelivered) == (0, 0), (result, daemon.drops())
    assert result.misordered == 0


def test_client_mode(lab: Lab, own_core: int) -> None:
    """testpmd listens, weftd connects."""
    daemon, vdevs = two_vms(lab, queues=1, packed=False, mode="client")
    flow = seqgen.Flow(tx=0, rx=1, src=MACS[0], dst=MACS[1], pps=5_000)
    generator = seqgen.SeqGen(lab, vdevs, [flow], core=own_core)
    for name in ("vm0", "vm1"):
        site.wait_port(daemon, name)
    assert generator.send_for(1).lost == 0


def test_memif(lab: Lab, own_core: int) -> None:
    host = site.local_site(lab)
    paths = [host.memif_port(f"m{i}", "web") for i in (0, 1)]
    for i, mac in enumerate(MACS):
        host.fdb("web", mac, port=f"m{i}")
    daemon = host.start(cores="0")
    flows = [seqgen.Flow(tx=i, rx=1 - i, src=MACS[i], dst=MACS[1 - i], pps=20_000) for i in (0, 1)]
    generator = seqgen.SeqGen(lab, [testpmd.memif(i, path) for i, path in enumerate(paths)], flows, core=own_core)
    for name in ("m0", "m1"):
        site.wait_port(daemon, name)
    result = generator.send_for(2)
    assert result.received > 50_000
    assert (result.lost, result.misdelivered) == (0, 0), (result, daemon.drops())


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_offered_features(lab: Lab, packed: bool) -> None:
    """What weftd offers, read off the socket: no offload that it does not implement, packed rings only if asked."""
    host = site.local_site(lab)
    path = host.vm_port("vm", "web", queues=2, packed=packed)
    host.start()
    offered = vhostproto.offered_features(path)
    assert not [bit for bit in vhostproto.OFFLOADS if vhostproto.has(offered, bit)], hex(offered)
    assert vhostproto.has(offered, vhostproto.RING_PACKED) == packed
    for bit in (vhostproto.MRG_RXBUF, vhostproto.MQ, vhostproto.VERSION_1):
        assert vhostproto.has(offered, bit), hex(offered)


def test_nonsense_on_the_socket(lab: Lab) -> None:
    """Clients that speak no vhost-user, or leave in the middle of a message, harm nobody."""
    host = site.local_site(lab)
    path = host.vm_port("vm", "web")
    peer = host.tenant("t0", "web", "10.0.0.2/24", MACS[1])
    daemon = host.start()
    for data in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(12), vhostproto.message(999), b"\xff" * 300,
                 vhostproto.message(vhostproto.GET_FEATURES)[:7], vhostproto.message(5, bytes(8), size=4096),
                 vhostproto.message(8, struct_words(0, 0xFFFFFFFF)), vhostproto.message(5, bytes(200))):
        with vhostproto.connect(path) as client:
            client.sendall(data)
    assert daemon.ctl("status")["ports"] == 2
    guest = Guest(lab, "vm1", path, mac=MACS[0], ip="10.0.0.1/24")
    guest.wait_ready()
    guest.wait_ping("10.0.0.2")
    assert peer.ping("10.0.0.1", count=3) == 3


def struct_words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


@pytest.mark.parametrize("kind", ["nowhere", "to a VM that does not listen", "broadcast"])
def test_a_noisy_neighbour_costs_nothing(lab: Lab, own_core: int, kind: str) -> None:
    """One VM sends as fast as it can; the polite ones beside it, on the same worker, lose no packet."""
    host = site.local_site(lab)
    host.bd("noisy", None)
    vdevs = []
    names = [("vm0", "web"), ("vm1", "web"), ("noisy", "noisy")]
    names += [("deaf", "noisy")] if kind != "nowhere" else []
    for i, (name, bd) in enumerate(names):
        path = host.vm_port(name, bd)
        vdevs.append(testpmd.virtio_user(i, path, mac=f"02:00:00:00:00:0{i + 1}", queue_size=1024))
    if kind.startswith("to a VM"):
        host.fdb("noisy", "02:00:00:00:00:04", port="deaf")
    for i, mac in enumerate(MACS):
        host.fdb("web", mac, port=f"vm{i}")
    daemon = host.start(cores="0")
    target = "ff:ff:ff:ff:ff:ff" if kind == "broadcast" else "02:00:00:00:00:04"
    flows = [seqgen.Flow(tx=0, rx=1, src=MACS[0], dst=MACS[1], pps=20_000),
             seqgen.Flow(tx=1, rx=0, src=MACS[1], dst=MACS[0], pps=20_000),
             seqgen.Flow(tx=2, rx=3 if kind == "broadcast" else 2, src="02:00:00:00:00:03", dst=target, pps=0, must_arrive=False)]
    if kind.startswith("to a VM"):
        # A VM that has connected and then hangs: its ring fills up and stays full.
        stuck = testpmd.Testpmd(lab, [vdevs.pop()], cores=(0,), name="deaf")
        assert stuck.link_up()
    generator = seqgen.SeqGen(lab, vdevs, flows, core=own_core)
    result = seqgen.undisturbed(lambda: generator.send_for(3), limit_ms=10)
    assert result.flows[2].sent > 200_000, "the noisy VM was not noisy"
    for polite in result.flows[:2]:
        assert polite.sent > 40_000
        assert (polite.lost, polite.misordered) == (0, 0), (result, daemon.drops())
    assert result.misdelivered == 0
