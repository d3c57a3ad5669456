"""Several workers: queues are spread over them, packets cross from one to the other, and flows keep their order."""

from __future__ import annotations

import itertools
import time

from lab import seqgen, site, stall, testpmd
from lab.proc import Lab, wait_for
from lab.seqgen import Flow, SeqGen
from lab.weft import Weft

MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 4)]
# Low, since the generator shares a core with a worker here: neither may miss its turn for a ring to overflow.
PPS = 2_000


def owners(daemon: Weft) -> dict[str, int]:
    """Queue name to worker, from `weftctl worker list`."""
    return {queue: worker["id"] for worker in daemon.ctl("worker", "list") for queue in worker["queues"]}


def test_packets_cross_between_workers_in_order(lab: Lab) -> None:
    """Three ports with one queue each on two workers: at least one pair has its ends on different workers."""
    host = site.local_site(lab)
    vdevs = []
    for i, name in enumerate(("vm0", "vm1", "vm2")):
        vdevs.append(testpmd.virtio_user(i, host.vm_port(name, "web"), mac=MACS[i], queue_size=1024))
        host.fdb("web", MACS[i], port=name)
    daemon = host.start(cores="0,1")

    owner = owners(daemon)
    assert set(owner.values()) == {0, 1}, owner
    assert all(f"{name}:{end}" in owner for name in ("vm0", "vm1", "vm2") for end in ("rx0", "tx0")), owner
    assert {owner["vm0:rx0"], owner["vm1:tx0"]} == {0, 1}, "vm0 to vm1 must cross"
    assert {owner["up0:rx0"]} <= {0, 1}

    pairs = [(0, 1), (1, 0), (0, 2), (2, 1)]
    flows = [Flow(tx=a, rx=b, src=MACS[a], dst=MACS[b], pps=PPS) for a, b in pairs]
    with SeqGen(lab, vdevs, flows, core=1, urgent=False) as generator:
        for name in ("vm0", "vm1", "vm2"):
            site.wait_port(daemon, name)
        # The generator shares its core with a worker: on a busy machine it may get too little of it.
        for _ in range(4):
            result = seqgen.undisturbed(lambda: generator.send_for(3), limit_ms=10)
            if all(flow.sent > PPS for flow in result.flows):
                break
    print(result)
    assert all(flow.sent > PPS for flow in result.flows)
    assert (result.lost, result.misordered, result.misdelivered) == (0, 0, 0), (result, daemon.drops())


def test_a_port_goes_while_another_worker_sends_to_it(lab: Lab) -> None:
    """A port that is removed and made again while packets for it are on the rings: nobody else gets them."""
    host = site.local_site(lab)
    vdevs = [testpmd.virtio_user(i, host.vm_port(f"vm{i}", "web"), mac=MACS[i], queue_size=1024) for i in (0, 1)]
    for i in (0, 1):
        host.fdb("web", MACS[i], port=f"vm{i}")
    host.bd("other", None)
    daemon = host.start(cores="0,1")
    flows = [Flow(tx=0, rx=1, src=MACS[0], dst=MACS[1], pps=PPS),
             Flow(tx=0, rx=1, src=MACS[0], dst=MACS[2], pps=PPS, must_arrive=False)]
    with SeqGen(lab, vdevs, flows, core=1, urgent=False) as generator:
        for name in ("vm0", "vm1"):
            site.wait_port(daemon, name)
        with generator.sending() as run:
            begin, deadline = generator.stats().flows[0].sent, time.monotonic() + 60
            for turn in itertools.count():
                if turn >= 20 and generator.stats().flows[0].sent - begin > PPS:
                    break
                assert time.monotonic() < deadline, f"too little was sent in {turn} turns"
                bd = ("web", "other")[turn % 2]
                daemon.ctl("port", "add", "gone", "--bd", bd, "--vhost-user", lab.path("gone.sock"))
                if bd == "web":
                    daemon.ctl("fdb", "add", MACS[2], "--bd", "web", "--port", "gone")
                daemon.ctl("port", "del", "gone")
    print(run.result, daemon.drops())
    assert run.result.flows[0].lost == 0 and run.result.misordered == 0, (run.result, daemon.drops())


def test_what_waits_for_a_stalled_worker_is_shown(lab: Lab) -> None:
    """A change during the stall is in force, what it replaced waits, status names the worker; then all is as before."""
    host = site.local_site(lab)
    host.vtep("far", "192.168.50.2", "vxlan")
    host.bd("cloud", 100, ["far"])
    # One that sleeps for want of work holds nothing up.
    daemon = host.start(cores="0,1", idle="poll")

    def waiting() -> dict[str, int]:
        return dict(daemon.stats()["waiting"])

    nothing = {"items": 0, "bytes": 0, "oldest_milliseconds": 0}
    assert waiting() == nothing
    assert "waiting for workers: nothing\n" in daemon.ctl_raw("stats").stdout
    with stall.stopped(daemon.ctl("status")["pid"], "worker-1"):
        daemon.ctl("fdb", "add", MACS[0], "--bd", "cloud", "--vtep", "far")
        assert waiting() == nothing, "an entry replaces nothing that a worker may hold"
        daemon.ctl("bd", "add", "other", "--vni", "101")
        during = waiting()
        assert during["items"] > 0 and during["bytes"] > 0 and during["oldest_milliseconds"] > 3000, during
        assert " in " in daemon.ctl_raw("stats").stdout.split("waiting for workers: ")[1].splitlines()[0]
        alarms: list[str] = wait_for(lambda: daemon.ctl("status")["alarms"], 3, "an alarm")
        assert len(alarms) == 2 and all("worker-1" in alarm for alarm in alarms), alarms
        assert any("that changes replaced wait for worker-1" in alarm for alarm in alarms), alarms
        assert daemon.stats()["fdb"]["entries"] == 1
    wait_for(lambda: waiting() == nothing, 3, "what waited is freed")
    wait_for(lambda: daemon.ctl("status")["alarms"] == [], 3, "no alarm is left")
