#!/usr/bin/python3
"""weft in three minutes: two hosts, two virtual machines, GENEVE and VXLAN between them, then full rate.

Run by `make demo` after the build. Everything happens in network namespaces made here and is gone at the end.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab import needs  # noqa: E402

HUGEPAGES = 600
GUEST_MB = 160
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
ADDRESSES = ("10.0.0.1", "10.0.0.2")
STEPS = 7

BEGUN = time.monotonic()
_step = 0


def heading(text: str) -> None:
    global _step
    _step += 1
    print(f"\n\033[1m[{_step}/{STEPS}] {text}\033[0m  ({time.monotonic() - BEGUN:.0f} s)" if sys.stdout.isatty()
          else f"\n[{_step}/{STEPS}] {text}  ({time.monotonic() - BEGUN:.0f} s)", flush=True)


def say(text: str) -> None:
    print(textwrap.indent(text.rstrip(), "    "), flush=True)


def check_host() -> bool:
    """Says everything that is missing at once."""
    found = needs.missing(hugepages=HUGEPAGES, other_memory_mb=2 * GUEST_MB + 400)
    for missing in found:
        print(f"missing: {missing.what}\n    -> {missing.way_on}", file=sys.stderr)
    return not found


def underlay_packet(site, guest, pcap: Path, encap: str) -> None:  # type: ignore[no-untyped-def]
    """Pings once more, and shows what that looked like on the wire between the hosts."""
    from lab import traffic

    with traffic.capture(site.ns, "up0", pcap):
        guest.ping(ADDRESSES[1], count=1)
    say(f"The echo request on the underlay, as tshark explains it ({encap}, outer headers first):")
    say(traffic.tshark_text(pcap, f"{encap} && icmp.type == 8"))


def two_hosts(lab) -> None:  # type: ignore[no-untyped-def]
    from lab import site
    from lab.guest import Guest
    from lab.proc import LabError

    heading("Two hosts, each with its own weftd, joined by an underlay")
    hosts = site.pair(lab, "geneve")
    sockets = [host.vm_port("vm", "web") for host in hosts]
    cores = sorted(os.sched_getaffinity(0))
    daemons = [host.start(cores=str(cores[i % len(cores)])) for i, host in enumerate(hosts)]
    for host, daemon in zip(hosts, daemons, strict=True):
        say(f"host {host.number}: namespace {host.ns.name}, VTEP {host.address}, weftd {daemon.ctl('status')['version']} "
            f"on core {daemon.ctl('worker', 'list')[0]['core']}, uplink {host.config['uplink'][0]['device'].split(',')[0]}")

    heading("A virtual machine on each, connected by vhost-user (QEMU emulates the CPU, so this takes some seconds)")
    guests = [Guest(lab, f"vm{i + 1}", path, mac=MACS[i], ip=f"{ADDRESSES[i]}/24", memory_mb=GUEST_MB)
              for i, path in enumerate(sockets)]
    for i, guest in enumerate(guests):
        guest.wait_ready()
        say(f"{guest.name} on host {i + 1}: {guest.run('uname -sr').output.strip()}, eth0 {MACS[i]} {ADDRESSES[i]}/24")

    for encap in ("geneve", "vxlan"):
        if encap == "geneve":
            heading("The two machines ping each other over GENEVE")
        else:
            heading("The same over VXLAN: `weftctl reload` with a changed file, the machines run on")
            for host, daemon in zip(hosts, daemons, strict=True):
                host.config["vtep"][0]["encap"] = encap
                report = daemon.reload(host.config)
                say(f"host {host.number}: changed {', '.join(report['changed'])}; {report['unchanged']} objects as they were")
        guests[0].wait_ping(ADDRESSES[1])
        answer = guests[0].run(f"ping -c 4 -i 0.2 {ADDRESSES[1]}", check=False)
        say(answer.output)
        if answer.status:
            raise LabError(f"the machines do not reach each other over {encap}")
        underlay_packet(hosts[1], guests[0], lab.path(f"{encap}.pcap"), encap)
    for host, daemon in zip(hosts, daemons, strict=True):
        books = daemon.assert_books_balance()
        say(f"host {host.number}: {books.received} packets received, {books.sent} sent, {books.dropped} dropped, "
            f"every one accounted for; drops by reason: {daemon.drops() or 'none'}")

    heading("Everything stopped, to have the processor to ourselves")
    for guest in guests:
        guest.stop()
    for host, daemon in zip(hosts, daemons, strict=True):
        say(f"host {host.number}: weftd ended {daemon.stop() * 1000:.0f} ms after SIGTERM")


def full_rate(lab) -> None:  # type: ignore[no-untyped-def]
    from lab import site, testpmd

    cores = sorted(os.sched_getaffinity(0))
    heading(f"Full rate: 64-byte frames between two testpmd \"VMs\" through one weftd (its one worker on core {cores[0]})")
    host = site.local_site(lab, 9)
    vdevs = []
    for i, mac in enumerate(MACS):
        path = host.vm_port(f"vm{i + 1}", "web")
        host.fdb("web", mac, port=f"vm{i + 1}")
        vdevs.append(testpmd.virtio_user(i, path, mac=mac, queue_size=1024))
    daemon = host.start(cores=str(cores[0]))
    vm = testpmd.Testpmd(lab, vdevs, cores=(cores[-1],), name="testpmd")
    for i in (0, 1):
        site.wait_port(daemon, f"vm{i + 1}")
        vm.cmd(f"set eth-peer {i} {MACS[1 - i]}")
    vm.cmd("set txpkts 64")
    vm.start("flowgen")
    time.sleep(1)
    daemon.ctl("worker", "list")  # its figures are those since the last question
    before = [vm.stats(i) for i in (0, 1)]
    time.sleep(5)
    after = [vm.stats(i) for i in (0, 1)]
    worker = daemon.ctl("worker", "list")[0]
    mpps = sum(a.since(b).rx_pps for a, b in zip(after, before, strict=True)) / 1e6
    vm.stop_forwarding()
    say(f"{mpps:.2f} million packets/s arrive, both directions together, at {worker['cycles_per_packet']:.0f} cycles a packet")
    say(f"The worker is busy for {worker['busy_percent']:.0f} % of its time. testpmd sends more than arrives; the rest has a name:")
    daemon.assert_books_balance()
    say(", ".join(f"{reason} {count}" for reason, count in daemon.drops().items()) or "no drops")
    vm.stop()
    say(f"weftd ended {daemon.stop() * 1000:.0f} ms after SIGTERM")


def left_behind(run_id: str, pages_before: int) -> list[str]:
    """What of ours is still there after the clean-up."""
    from lab import hugepages

    left = [f"namespace {p.name}" for p in Path("/run/netns").glob(f"weft-{run_id}-*")]
    left += [str(p) for p in Path("/tmp").glob(f"weft-{run_id}-*")]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"weft-{run_id}-".encode() in cmdline.read_bytes():
                left.append(f"process {cmdline.parent.name}")
        except OSError:
            continue
    if hugepages.total() != pages_before:
        left.append(f"{hugepages.total()} hugepages, {pages_before} before")
    return left


def main() -> int:
    print("weft demo: two hosts, two VMs, one tenant network. Ctrl-C ends it and cleans up.")
    if not check_host():
        return 1
    from lab import hugepages, weft
    from lab.proc import Lab, LabError, handle_signals

    if problem := weft.missing():
        print(f"missing: {problem}", file=sys.stderr)
        return 1
    handle_signals()
    pages_before = hugepages.total()
    lab = Lab("demo")
    code = 0
    try:
        hugepages.ensure(lab, HUGEPAGES)
        two_hosts(lab)
        full_rate(lab)
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted ({interrupt}), cleaning up", file=sys.stderr)
        code = 130
    except (LabError, AssertionError, weft.Refused) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        for log in lab.logs():
            if log.name.startswith(("weftd", "testpmd", "qemu")):
                text = log.read_text(errors="replace").splitlines()
                print(f"--- end of {log.name} ---\n" + "\n".join(text[-15:]), file=sys.stderr)
        code = 1
    finally:
        if code == 0:
            heading("Cleaning up: processes, namespaces, sockets; hugepages as they were")
        lab.close()
    left = left_behind(lab.id, pages_before)
    say("left behind: " + (", ".join(left) or "nothing"))
    if code == 0:
        print(f"\nDone in {time.monotonic() - BEGUN:.0f} s.")
    return code or bool(left)


if __name__ == "__main__":
    sys.exit(main())
