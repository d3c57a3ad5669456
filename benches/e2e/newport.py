"""How long a new port takes, from the call of `weftctl port add`.

Until the first frame: the port is one end of a veth pair; frames are sent into another port of the bridge domain all the
time, and the first one that comes out of the pair's other end counts. Until a VM can connect: the port is vhost-user, and
its socket is tried all the time.
"""

from __future__ import annotations

import select
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from cases import Case
from changing import Changing
from switches import Failed, program

Result = dict[str, Any]
# A broadcast that the kernel has no use for (IEEE 802's local experimental Ethertype).
FRAME = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x88\xb5" + bytes(46)
PAUSE = 50e-6
# Seconds until it has failed.
PATIENCE = 10


def af_packet(number: int, interface: str) -> str:
    return f"net_af_packet{number},iface={interface},framesz=2048,framecnt=512,blocksz=4096"


class Pairs:
    """Two veth pairs: ("weft-a", "peer-a") and so on, with names of this process's own."""

    def __init__(self) -> None:
        number = f"{time.monotonic_ns() % 10**6:06d}"
        self.pairs = {which: (f"wb{number}{which}", f"wb{number}{which}p") for which in "ab"}

    def __enter__(self) -> Pairs:
        for ours, peers in self.pairs.values():
            subprocess.run(["ip", "link", "add", ours, "type", "veth", "peer", "name", peers], check=True)
            for name in (ours, peers):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
                subprocess.run(["ip", "link", "set", name, "up"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        for ours, _ in self.pairs.values():
            subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)


def _open(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    raw.bind((interface, 0x88B5))
    return raw


class Sender:
    """Sends frames all the time while it is entered."""

    def __init__(self, interface: str) -> None:
        self.raw, self.ending = _open(interface), threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.ending.wait(PAUSE):
            self.raw.send(FRAME)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.thread.join()
        self.raw.close()


def _add(switch: Changing, *words: str) -> subprocess.Popen[str]:
    argv = [str(program("weftctl")), "--socket", str(switch.socket("api")), "port", "add", "new", "--bd", "bench", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finished(ctl: subprocess.Popen[str]) -> None:
    _, errors = ctl.communicate(timeout=PATIENCE)
    if ctl.returncode:
        raise Failed(f"weftctl port add: {errors.strip()}")


def first_frame(switch: Changing, pairs: Pairs, number: int) -> float:
    ours, peers = pairs.pairs["b"]
    raw = _open(peers)
    try:
        # What the port before this one has sent is under way no longer than that.
        while select.select([raw], [], [], 0.05)[0]:
            raw.recv(2048)
        begin = time.monotonic()
        ctl = _add(switch, "--device", af_packet(number, ours))
        arrived = select.select([raw], [], [], PATIENCE)[0]
        took = time.monotonic() - begin
        _finished(ctl)
        if not arrived:
            raise Failed(f"no frame came out of the new port in {PATIENCE} s")
    finally:
        raw.close()
    switch.ctl("port", "del", "new")
    return took


def connected(switch: Changing, path: Path) -> float:
    begin = time.monotonic()
    ctl = _add(switch, "--vhost-user", str(path))
    with socket.socket(socket.AF_UNIX) as guest:
        while guest.connect_ex(str(path)):
            if time.monotonic() > begin + PATIENCE:
                raise Failed(f"the socket does not answer in {PATIENCE} s")
            time.sleep(PAUSE)
        took = time.monotonic() - begin
        _finished(ctl)
    switch.ctl("port", "del", "new")
    return took


def measure(entries: int, folder: Path, cores: tuple[int, int], times: int) -> list[Result]:
    """Several times each, with so many forwarding entries present."""
    folder.mkdir()
    switch = Changing(Case("encap", "vxlan", max(1, entries)), folder, *cores)
    with Pairs() as pairs:
        try:
            switch.start()
            if entries:
                file = folder / "entries"
                file.write_text("".join(f"add bench {mac} vtep peer\n" for mac in switch.case.macs()))
                switch.apply(file)
            ours, peers = pairs.pairs["a"]
            switch.ctl("port", "add", "old", "--bd", "bench", "--device", af_packet(1, ours))
            with Sender(peers):
                frames = [first_frame(switch, pairs, 2 + n) for n in range(times)]
            sockets = [connected(switch, folder / f"new{n}.sock") for n in range(times)]
        finally:
            switch.stop()
    return [{"what": what, "entries": entries, "ms": [t * 1e3 for t in took]}
            for what, took in (("first frame (veth)", frames), ("vhost-user socket answers", sockets))]


def text(results: list[Result]) -> str:
    lines = [f"{'port add until':<28} {'entries':>10} {'median ms':>10} {'least':>8} {'most':>8} {'times':>6}"]
    for r in results:
        ms = r["ms"]
        lines.append(f"{r['what']:<28} {r['entries']:>10,} {statistics.median(ms):>10.1f} {min(ms):>8.1f} {max(ms):>8.1f} {len(ms):>6}")
    return "\n".join(lines)
