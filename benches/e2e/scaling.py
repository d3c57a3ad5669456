#!/usr/bin/env python3
"""How weftd's rate grows from one worker to two, without a generator: packets come from memory and go nowhere.

  scaling.py                        l2 and encap, 5 rounds of 1 worker and 2 workers in turns
  scaling.py --case l2 --rounds 9

Each worker has a port of its own that DPDK's pcap driver fills from a file that lies in memory, over and over. Where they
lead to costs next to nothing: `net_null` takes what it is sent. So no core is spent on generating or receiving, and two
workers fit two cores. What the figures are good for is their ratio: the driver copies each frame when it is received, as a NIC
does not, and there is no wire.

Everything else on the machine runs on the same cores as the workers: DPDK's and weftd's own threads, this script, other
programs. What a worker waited for its core is measured, and a round in which one waited for more than 3% does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from cases import PEER_IP, PEER_MAC, SWITCH_IP, SWITCH_MAC, VNI, Case
from switches import Failed, program

# Packets in each source's file, to as many destinations. The driver keeps them all in mbufs.
FLOWS = 512
# Copies of the peer's ARP packet on the uplink: they are read once, from the first poll on, and one must find weftd ready.
ARP_COPIES = 100_000
# Share of the time that a worker may have waited for its core in a round that counts.
MAX_STOLEN = 0.03
Run = dict[str, Any]


def write_pcap(file: Path, frames: list[bytes]) -> None:
    with file.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            out.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def source_frames(size: int, sender: int) -> list[bytes]:
    """A frame to each of the receivers that `cases.Case` names, from a sender of its own."""
    frames = []
    for n, mac in enumerate(Case("l2", "vxlan", FLOWS).macs()):
        number = struct.pack("!I", n)
        # The checksums stay zero: weft does not look at those of inner packets.
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size - 14, 0, 0, 64, 17, 0)
        ip += bytes([10, 0, 0, sender, 10, 128 | number[1]]) + number[2:]
        udp = struct.pack("!HHHH", 1000 + sender, 2000, size - 34, 0)
        frames.append((to_bytes(mac) + bytes([2, 0, 0, 0, 0, sender, 8, 0]) + ip + udp).ljust(size, b"\0"))
    return frames


def arp_request() -> bytes:
    """The peer asks for weft's address, and so tells its own."""
    peer, mac = bytes(map(int, PEER_IP.split("."))), to_bytes(PEER_MAC)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + peer + bytes(6) + bytes(map(int, SWITCH_IP.split(".")))
    return (b"\xff" * 6 + mac + b"\x08\x06" + arp).ljust(60, b"\0")


def to_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def configuration(case: str, cores: list[int], folder: Path, size: int) -> str:
    """One source and one sink for each worker, in a network of their own, so that no packet changes its worker: the queue
    of the port in slot `s` belongs to worker `(s - 1) mod workers`, and slots are given in the order of the ports."""
    workers = range(len(cores))
    write_pcap(folder / "arp.pcap", [arp_request()] * ARP_COPIES)
    # Without an interface or file to send to, the pcap driver drops what is sent. A queue for each worker.
    uplink = "net_pcap0" + f",rx_pcap={folder}/arp.pcap" * len(cores)
    text = f"""
[daemon]
socket = "{folder}/api.sock"
log = "warn"
[dpdk]
memory_mb = 256
file_prefix = "weft-scaling-{os.getpid()}"
[workers]
cores = "{",".join(map(str, cores))}"
idle = "poll"
[[uplink]]
name = "up0"
device = "{uplink}"
address = "{SWITCH_IP}/24"
mtu = 1500
[[vtep]]
name = "peer"
address = "{PEER_IP}"
encap = "vxlan"
"""
    for n in workers:
        text += f'[[bd]]\nname = "bench{n}"\nvni = {VNI + n}\nvteps = ["peer"]\n'
    for n in workers:
        write_pcap(folder / f"source{n}.pcap", source_frames(size, n + 1))
        text += (f'[[port]]\nname = "source{n}"\nbd = "bench{n}"\ntype = "ethdev"\n'
                 f'device = "net_pcap{n + 1},rx_pcap={folder}/source{n}.pcap,infinite_rx=1"\n')
    for n in workers:
        text += f'[[port]]\nname = "sink{n}"\nbd = "bench{n}"\ntype = "ethdev"\ndevice = "net_null{n},no-rx=1"\n'
    for n in workers:
        target = 'vtep = "peer"' if case == "encap" else f'port = "sink{n}"'
        for mac in Case(case, "vxlan", FLOWS).macs():
            text += f'[[fdb]]\nbd = "bench{n}"\nmac = "{mac}"\n{target}\n'
    return text


class Weftd:
    """weftd for one round."""

    def __init__(self, text: str, folder: Path) -> None:
        self.api, self.log = folder / "api.sock", folder / "weftd.log"
        (folder / "weft.toml").write_text(text)
        with self.log.open("wb") as log:
            self.proc = subprocess.Popen([program("weftd"), "--config", folder / "weft.toml"], stdout=log,
                                         stderr=subprocess.STDOUT)

    def ask(self, word: str) -> dict[str, Any]:
        done = subprocess.run([program("weftctl"), "--socket", self.api, "--json", word], capture_output=True, text=True,
                              timeout=30, check=False)
        if done.returncode:
            raise Failed(f"weftctl {word}: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def wait(self) -> None:
        end = time.monotonic() + 30
        while not self.api.exists():
            if self.proc.poll() is not None or time.monotonic() > end:
                raise Failed(f"weftd did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.proc.terminate()
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait(10)


def sent(stats: dict[str, Any], case: str) -> int:
    """Packets that left by the ports that the case leads to."""
    way_out = "up0" if case == "encap" else "sink"
    return sum(p["tx_packets"] for p in stats["ports"] if p["name"].startswith(way_out))


def measure(case: str, cores: list[int], args: argparse.Namespace, base: Path) -> Run:
    folder = Path(tempfile.mkdtemp(dir=base))
    weftd = Weftd(configuration(case, cores, folder, args.size), folder)
    try:
        weftd.wait()
        time.sleep(args.warm)
        threads = [machine.threads_on(weftd.proc.pid, core) for core in cores]
        # Cycles are since the time asked before.
        first, start = weftd.ask("stats"), time.monotonic()
        time.sleep(args.seconds)
        last, end = weftd.ask("stats"), time.monotonic()
        stolen = [machine.stolen(t, machine.threads_on(weftd.proc.pid, core)) for t, core in zip(threads, cores)]
    finally:
        weftd.stop()
        shutil.rmtree(folder, ignore_errors=True)
    drops = {reason: n - first["drops"].get(reason, 0) for reason, n in last["drops"].items()}
    drops = {reason: n for reason, n in drops.items() if n}
    moved = sent(last, case) - sent(first, case)
    if not moved and not unresolved(drops):
        raise Failed(f"nothing was sent; dropped meanwhile: {drops or 'nothing'}")
    return {"case": case, "workers": len(cores), "mpps": moved / (end - start) / 1e6, "drops": drops, "stolen": max(stolen),
            "cycles": statistics.mean(w["cycles_per_packet"] for w in last["workers"])}


def unresolved(drops: dict[str, int]) -> bool:
    return any(reason.startswith("neighbor-") for reason in drops)


def judge(run: Run) -> str:
    """Why a round does not count; empty if it does."""
    if unresolved(run["drops"]):
        return "weftd was not ready yet when the peer's ARP packets came"
    return f"a worker waited for its core {run['stolen']:.1%} of the time" if run["stolen"] > MAX_STOLEN else ""


def summary(runs: list[Run], case: str) -> str:
    lines = []
    rates: dict[int, float] = {}
    for workers in (1, 2):
        good = [r for r in runs if r["case"] == case and r["workers"] == workers and not r["why_not"]]
        if not good:
            lines.append(f"{case:<6} {workers} worker{'s'[:workers > 1]}: no round counts")
            continue
        all_rates = [r["mpps"] for r in good]
        rates[workers] = statistics.median(all_rates)
        lines.append(f"{case:<6} {workers} worker{'s'[:workers > 1]:<1}  {rates[workers]:6.2f} Mpps ({min(all_rates):.2f}-{max(all_rates):.2f})  "
                     f"{statistics.median(r['cycles'] for r in good):4.0f} cycles/pkt  {len(good)} rounds")
    if len(rates) == 2:
        lines.append(f"{case:<6} 2 workers forward {rates[2] / rates[1]:.2f} times what 1 does")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=["l2", "encap"], help="one of them only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=float, default=0.5, help="seconds before counting")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of counting")
    parser.add_argument("--size", type=int, default=64, help="frame in bytes, without FCS")
    parser.add_argument("--cores", default="0,1", help="two cores for the workers")
    parser.add_argument("--no-priority", action="store_true", help="do not go before other sessions in the scheduler")
    args = parser.parse_args()
    args.case = args.case or ["l2", "encap"]
    args.cores = [int(core) for core in args.cores.split(",")]
    if len(set(args.cores)) != 2:
        parser.error("--cores: two different ones")
    if not 60 <= args.size <= 1450:
        parser.error("--size: 60 to 1450")
    return args


def main() -> int:
    args = arguments()
    for name in ("weftd", "weftctl", "core-distance"):
        program(name)
    if not args.no_priority:
        machine.in_a_session_of_its_own()
        if problem := machine.prefer_this_session():
            print(problem, file=sys.stderr)
    distance = machine.core_distance(program("core-distance"), *args.cores)
    print(f"cores {args.cores[0]} and {args.cores[1]}, {distance:.0f} ns apart; frames of {args.size} bytes, {FLOWS} MACs a worker")
    runs: list[Run] = []
    failures = 0
    base = Path(tempfile.mkdtemp(prefix="weft-scaling."))
    try:
        for number in range(args.rounds):
            for case in args.case:
                # In turns, the first one first every other time.
                for count in ((1, 2), (2, 1))[number % 2]:
                    try:
                        run = measure(case, args.cores[:count], args, base)
                    except Failed as e:
                        failures += 1
                        print(f"{case:<6} {count} FAILED: {e}", flush=True)
                        continue
                    run["why_not"] = judge(run)
                    runs.append(run)
                    print(f"{case:<6} {count}  {run['mpps']:6.2f} Mpps  {run['cycles']:4.0f} cycles  stolen {run['stolen']:.1%}  "
                          f"{run['why_not']} {run['drops'] or ''}".rstrip(), flush=True)
    except KeyboardInterrupt:
        print("interrupted: what was measured so far", file=sys.stderr)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print()
    for case in args.case:
        print(summary(runs, case))
    return 1 if failures or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
