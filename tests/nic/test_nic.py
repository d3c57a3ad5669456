"""weftd on NICs that vfio-pci has: e1000e with one queue in use, virtio-net with RSS over several."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from lab import frames
from lab.frames import ARP, ICMP, IP, Ether
from lab.proc import wait_for
from lab.weft import DropCount

from .conftest import Machine
from .server import ADDRESS, CORES, FAR_MAC, FAR_TENANT, NIC_MAC, PEER, TENANT, UNDERLAY_MTU, VNI, VTEP, overlay

# What a guest's kernel never answers: it is for somebody else.
NOBODY = "02:00:00:00:00:99"


def outer(machine: Machine, sport: int = 49200) -> frames.Outer:
    return frames.Outer(src_mac=machine.cable.mac("nic0"), dst_mac=NIC_MAC, src_ip=PEER, dst_ip=VTEP, sport=sport)


def arrived(machine: Machine) -> int:
    """Frames that the tenant has got so far."""
    return int(machine.server.run("cat /sys/class/net/v1/statistics/rx_packets").output)


def wait_tenants(machine: Machine) -> None:
    wait_for(lambda: machine.cable.ping(TENANT, count=1), 30, "the tenants reach each other")


@contextlib.contextmanager
def quiet_tenants(machine: Machine) -> Iterator[None]:
    """No ARP between the tenants, so that frames can be counted exactly."""
    mac = machine.server.run("cat /sys/class/net/v1/address").output.strip()
    machine.cable.ip("neigh", "replace", TENANT, "lladdr", mac, "dev", "vx0", "nud", "permanent")
    machine.server.run(f"/bin/ip neigh replace {FAR_TENANT} lladdr {FAR_MAC} dev v1 nud permanent")
    try:
        yield
    finally:
        machine.cable.ip("neigh", "del", TENANT, "dev", "vx0")
        machine.server.run(f"/bin/ip neigh del {FAR_TENANT} dev v1")


def test_shows_the_nic(machine: Machine) -> None:
    """Driver, address and link are the device's own; every queue has one owner and all workers have some."""
    daemon, nic = machine.daemon, machine.nic
    assert machine.server.driver() == "vfio-pci"
    up = daemon.uplink()
    assert (up["device"], up["driver"], up["mac"]) == (ADDRESS, nic.dpdk_driver, NIC_MAC)
    assert (up["mtu"], up["link_up"]) == (UNDERLAY_MTU, True)
    assert up["link_mbps"] == (1000 if nic.name == "e1000e" else 0), "virtio tells no speed"
    assert len(up["rx_queues"]) >= nic.queues
    workers = daemon.ctl("worker", "list")
    assert [w["core"] for w in workers] == list(range(CORES))
    owned = sorted(q for w in workers for q in w["queues"] if q.startswith("up0:rx"))
    assert owned == [f"up0:rx{n}" for n in range(len(up["rx_queues"]))]
    if nic.queues == CORES:
        assert [q["worker"] for q in up["rx_queues"]] == list(range(CORES)), "one for each worker"


def test_answers_arp_and_echo(machine: Machine) -> None:
    wire, mac = machine.wire, machine.cable.mac("nic0")
    wire.drain()
    wire.send(frames.arp_request(mac, PEER, VTEP))
    answer = Ether(wire.expect(lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02", 10, "an ARP reply"))
    assert (answer.src, answer.dst, answer[ARP].hwsrc, answer[ARP].psrc) == (NIC_MAC, mac, NIC_MAC, VTEP)
    for size in (0, 1, 56, 1400, UNDERLAY_MTU - 28):
        wire.send(frames.echo_request(mac, NIC_MAC, PEER, VTEP, size=size, sequence=size))
        answer = Ether(wire.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0, 10, f"echo of {size} bytes"))
        assert (answer[IP].src, answer[IP].dst, answer[ICMP].seq) == (VTEP, PEER, size)
        assert answer[IP].len == 28 + size
    # And as a kernel finds it, that knows nothing yet.
    machine.cable.ip("neigh", "flush", "dev", "nic0")
    assert machine.cable.ping(VTEP, count=10) == 10
    assert machine.cable.ip_json("neigh", "show", VTEP)[0]["lladdr"] == NIC_MAC


def test_forwards_vxlan(machine: Machine) -> None:
    """Between the server's tenant and the kernel's vxlan device, both ways, up to a full inner MTU, none lost."""
    daemon = machine.daemon
    wait_tenants(machine)
    before, drops = {p["name"]: p for p in daemon.stats()["ports"]}, DropCount(daemon)
    assert machine.cable.ping(TENANT, count=20) == 20
    assert machine.server.ping(FAR_TENANT, count=20) == 20
    assert machine.cable.ping(TENANT, count=5, size=1472, dont_fragment=True) == 5
    assert machine.server.ping(FAR_TENANT, count=5, size=1472) == 5
    assert drops.now() == {}
    after = {p["name"]: p for p in daemon.stats()["ports"]}
    for name in ("up0", "t0"):
        for counter in ("rx_packets", "tx_packets"):
            assert after[name][counter] - before[name][counter] >= 50, (name, counter)


def test_outer_headers(machine: Machine) -> None:
    """What left the NIC, taken apart by scapy."""
    wait_tenants(machine)
    machine.wire.drain()
    machine.server.ping(FAR_TENANT, count=1)
    packet = machine.wire.expect_tunnel(10)
    assert (packet.encap, packet.vni, packet.src, packet.dst, packet.dport) == ("vxlan", VNI, VTEP, PEER, 4789)
    assert (packet.src_mac, packet.udp_checksum, packet.ttl, packet.dont_fragment) == (NIC_MAC, 0, 64, True)
    assert 49152 <= packet.sport <= 65535


def test_carries_tcp(machine: Machine) -> None:
    """Streams in both directions: rings wrap, queues fill, and the transfer still comes to its end."""
    wait_tenants(machine)
    machine.cable.spawn(["iperf3", "-s", "-B", FAR_TENANT], name="iperf3-server")
    wait_for(lambda: machine.cable.run("ss", "-Hltn", "sport", "=", ":5201"), 5, "iperf3 listens")
    for direction in ("", "-R"):
        answer = machine.server.run(f"iperf3 -c {FAR_TENANT} {direction} -n 4M -i 0", timeout=90)
        assert "iperf Done" in answer.output, answer.output


def test_checks_outer_checksums(machine: Machine) -> None:
    """With or without the device's help: what is wrong is dropped by name, what is right arrives."""
    wait_tenants(machine)
    daemon, sender = machine.daemon, outer(machine)
    inner = frames.inner_udp(dst=NOBODY, payload=bytes(200))
    with quiet_tenants(machine):
        drops, before = DropCount(daemon), arrived(machine)
        machine.wire.send(*[sender.vxlan(VNI, inner, udp_checksum=0x1234)] * 3,
                          *[sender.vxlan(VNI, inner, ip_checksum=0x1234)] * 2)
        drops.wait({"outer-bad-udp-checksum": 3, "outer-bad-ip-checksum": 2}, 10)
        assert arrived(machine) == before
        drops = DropCount(daemon)
        machine.wire.send(*[sender.vxlan(VNI, inner, checksum=True)] * 3, *[sender.vxlan(VNI, inner)] * 2)
        wait_for(lambda: arrived(machine) == before + 5, 10, "all good frames arrive")
        assert drops.now() == {}


def test_flows_spread_over_the_queues(machine: Machine) -> None:
    """A flow stays on one queue. With RSS flows are on all queues: the device hashes the outer UDP ports."""
    daemon = machine.daemon
    # For nobody: dropped by the worker that polled it, so that no hand-over to the other one counts.
    flows = {sport: outer(machine, sport).vxlan(VNI + 1, frames.inner_udp()) for sport in range(49152, 49160)}

    def workers_with_packets() -> set[int]:
        """Those that had any since this was last asked."""
        return {w["id"] for w in daemon.ctl("worker", "list") if w["cycles_per_packet"] > 0}

    def owners(sport: int) -> set[int]:
        # This asks by `weftctl stats`, which starts the count of a worker's packets anew.
        drops = DropCount(daemon)
        machine.wire.send(*[flows[sport]] * 8)
        time.sleep(0.2)
        seen = workers_with_packets()
        drops.wait({"unknown-vni": 8}, 10)
        return seen

    seen: dict[int, set[int]] = {}
    for sport in flows:
        # An ARP packet in between would count, too, and on a slow host the packets may come later: look again.
        for _ in range(4):
            seen[sport] = owners(sport)
            if len(seen[sport]) == 1:
                break
    used = set(range(CORES)) if machine.nic.queues > 1 else {0}
    assert all(len(workers) == 1 for workers in seen.values()), seen
    assert set().union(*seen.values()) == used, seen


def test_forwards_what_comes_on_any_queue(machine: Machine) -> None:
    """A tenant's port has one owner; packets polled by another worker come to it through the rings."""
    wait_tenants(machine)
    inner = frames.inner_udp(dst=NOBODY)
    with quiet_tenants(machine):
        drops, before = DropCount(machine.daemon), arrived(machine)
        for burst in range(20):
            machine.wire.send(*[outer(machine, 49152 + 25 * burst + i).vxlan(VNI, inner) for i in range(25)])
            time.sleep(0.05)
        wait_for(lambda: arrived(machine) - before >= 500, 30, "500 packets of 500 flows arrive")
        machine.daemon.assert_books_balance(20)
        assert arrived(machine) - before == 500
        assert drops.now() == {}


def test_follows_the_cable(machine: Machine) -> None:
    """Pulled out and put in again, also while weftd starts."""
    daemon, server = machine.daemon, machine.server
    server.plug(False)
    wait_for(lambda: not daemon.uplink()["link_up"], 15, "weftd sees the link go down")
    assert machine.cable.ping(VTEP, count=2) == 0
    server.plug(True)
    wait_for(lambda: daemon.uplink()["link_up"], 30, "weftd sees the link come up")
    wait_tenants(machine)
    server.plug(False)
    daemon.assert_books_balance(20)
    daemon.stop()
    daemon.start()
    assert not daemon.uplink()["link_up"]
    server.plug(True)
    wait_for(lambda: daemon.uplink()["link_up"], 30, "weftd sees the link come up")
    wait_tenants(machine)
    assert machine.server.ping(FAR_TENANT, count=10) == 10


def test_comes_back_after_a_crash(machine: Machine) -> None:
    """The kernel resets a NIC whose owner was killed; the next weftd takes it, here with one queue only."""
    daemon = machine.daemon
    daemon.signal("KILL")
    daemon.write(overlay(machine.nic, rx_queues=1))
    daemon.start()
    assert [q["queue"] for q in daemon.uplink()["rx_queues"]] == [0]
    wait_tenants(machine)
    assert machine.cable.ping(TENANT, count=10) == 10
    daemon.assert_books_balance(20)
    daemon.write(overlay(machine.nic))
    daemon.stop()
    daemon.start()
    assert len(daemon.uplink()["rx_queues"]) >= machine.nic.queues
    wait_tenants(machine)


def test_a_nic_that_the_kernel_has(machine: Machine) -> None:
    """weft-host gives it back and the kernel drives it; weftd refuses it and says what to do; bound again, it works."""
    daemon, server, nic = machine.daemon, machine.server, machine.nic
    daemon.stop()
    server.host("unbind", ADDRESS)
    assert server.driver() == nic.kernel_driver
    # A virtio NIC's interface hangs one level deeper.
    interfaces = f"ls /sys/bus/pci/devices/{ADDRESS}/net /sys/bus/pci/devices/{ADDRESS}/virtio*/net 2> /dev/null"
    wait_for(lambda: "eth" in server.run(interfaces, check=False).output, 15, "the kernel has its interface back")
    interface = next(w for w in server.run(interfaces, check=False).output.split() if w.startswith("eth"))
    server.run(f"/bin/ip link set {interface} up && /bin/ip addr add {VTEP}/24 dev {interface}")
    machine.cable.wait_ping(VTEP, 20)
    # weft-host does not cut off what carries a route, and takes no for an answer only if told.
    refused = server.host("bind", interface, check=False)
    assert refused.status == 1 and "carries routes" in refused.output, refused
    server.run(f"/bin/ip addr flush dev {interface}")
    daemon.launch()
    code = wait_for(lambda: (daemon.exit_code() is not None and (daemon.exit_code(),)) or None, 60, "weftd refuses", step=0.3)
    said = daemon.log()
    assert code[0] == 1 and ADDRESS in said and "vfio-pci" in said, said
    assert server.driver() == nic.kernel_driver, "and left the NIC alone"
    server.host("bind", interface)
    assert server.driver() == "vfio-pci"
    daemon.start()
    machine.cable.ip("neigh", "flush", "dev", "nic0")
    wait_tenants(machine)
