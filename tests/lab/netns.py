"""Network namespaces, veth pairs, kernel VXLAN devices, and raw sockets inside a namespace."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .frames import Tunnelled, decode_tunnel
from .proc import Lab, LabError, Proc, Timeout, run, wait_for

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23


class Netns:
    """A network namespace of this run. Devices inside may have plain names: nobody else sees them."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.label = name
        self.name = f"weft-{lab.id}-{name}"
        run(["ip", "netns", "add", self.name])
        lab.defer(f"namespace {self.name}", lambda: run(["ip", "netns", "del", self.name]))
        # Router solicitations and MLD reports would show up in every count of frames.
        for scope in ("all", "default"):
            self.sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", 1)
        self.ip("link", "set", "lo", "up")

    def sysctl(self, key: str, value: int | str) -> None:
        self.run("sysctl", "-qw", f"{key}={value}")

    def ip(self, *words: str) -> str:
        return run(["ip", "-n", self.name, *words]).stdout

    def ip_json(self, *words: str) -> Any:
        return json.loads(run(["ip", "-n", self.name, "-json", *words]).stdout or "[]")

    def command(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(os.fspath, argv)]

    def run(self, *argv: str | os.PathLike[str], check: bool = True, timeout: float = 30) -> str:
        """Runs a command inside and returns what it printed."""
        done = run(self.command(argv), check=check, timeout=timeout)
        return done.stdout

    def spawn(self, argv: Sequence[str | os.PathLike[str]], *, name: str = "", **options: Any) -> Proc:
        """Starts a process inside; it ends with the run (the pid is the program's own)."""
        return self.lab.spawn(self.command(argv), name=name or os.path.basename(os.fspath(argv[0])), **options)

    def address(self, device: str, cidr: str) -> None:
        self.ip("address", "add", cidr, "dev", device)

    def mac(self, device: str) -> str:
        return self.ip_json("link", "show", "dev", device)[0]["address"]

    def counters(self, device: str) -> dict[str, dict[str, int]]:
        """`{"rx": {"packets": ..}, "tx": {..}}` of a device."""
        return self.ip_json("-s", "link", "show", "dev", device)[0]["stats64"]

    def vxlan(self, device: str, vni: int, local: str, remote: str, *, under: str, cidr: str = "", mac: str = "",
              port: int = 4789, mtu: int = 1500, udp_checksum: bool = False) -> None:
        """A kernel VXLAN device with one fixed peer."""
        options = ["address", mac] if mac else []
        self.ip("link", "add", device, *options, "type", "vxlan", "id", str(vni), "local", local, "remote", remote,
                "dev", under, "dstport", str(port), "udpcsum" if udp_checksum else "noudpcsum")
        self.ip("link", "set", device, "mtu", str(mtu), "up")
        offloads_off(self, device)
        if cidr:
            self.address(device, cidr)

    def ping(self, target: str, *, count: int = 3, size: int = 56, dont_fragment: bool = False,
             interval: float = 0.05, wait: float = 1.0) -> int:
        """Number of echo replies to `count` requests."""
        words = ["ping", "-n", "-c", str(count), "-i", str(interval), "-W", str(wait), "-s", str(size)]
        if dont_fragment:
            words += ["-M", "do"]
        out = self.run(*words, target, check=False, timeout=count * (interval + wait) + 10)
        found = re.search(r"(\d+) received", out)
        return int(found[1]) if found else 0

    def wait_ping(self, target: str, timeout: float = 10) -> float:
        """Pings until one reply came; returns the seconds that took."""
        start = time.monotonic()
        wait_for(lambda: self.ping(target, count=1, wait=0.2), timeout, f"{self.label} gets a reply from {target}")
        return time.monotonic() - start

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread works inside the namespace: sockets it opens there stay there."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{self.name}", "rb") as target:
            _setns(target.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def wire(self, device: str) -> Wire:
        """A raw socket on a device."""
        return Wire(self, device)


def _setns(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")


def offloads_off(ns: Netns, device: str) -> None:
    """Frames as they are on a real wire: with complete checksums and no larger than the MTU."""
    ns.run("ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)


def veth(a: Netns, a_dev: str, b: Netns, b_dev: str, *, mtu: int = 1500, a_mac: str = "", b_mac: str = "",
         offloads: bool = False) -> None:
    """A wire between two namespaces, both ends up; without offloads unless asked."""
    a_mac_words = ["address", a_mac] if a_mac else []
    b_mac_words = ["address", b_mac] if b_mac else []
    run(["ip", "link", "add", a_dev, *a_mac_words, "mtu", str(mtu), "netns", a.name, "type", "veth",
         "peer", "name", b_dev, *b_mac_words, "mtu", str(mtu), "netns", b.name])
    for ns, device in ((a, a_dev), (b, b_dev)):
        ns.ip("link", "set", device, "up")
        if not offloads:
            offloads_off(ns, device)
    for ns, device in ((a, a_dev), (b, b_dev)):
        wait_for(lambda ns=ns, device=device: ns.ip_json("link", "show", "dev", device)[0]["operstate"] == "UP",
                 5, f"{device} is up")


class Wire:
    """A raw AF_PACKET socket on one device of a namespace: sends any bytes, receives what arrives there."""

    def __init__(self, ns: Netns, device: str) -> None:
        self.device = device
        with ns.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self.socket.bind((device, 0))
        self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        ns.lab.defer(f"raw socket on {device}", self.socket.close)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.socket.send(frame)

    def drain(self) -> list[bytes]:
        """Everything that has already arrived."""
        frames = []
        while (frame := self._receive(0.0)) is not None:
            frames.append(frame)
        return frames

    def expect(self, wanted: Callable[[bytes], bool], timeout: float = 2.0, what: str = "a frame") -> bytes:
        """The next frame for which `wanted` is true; others are left out."""
        end = time.monotonic() + timeout
        others = 0
        while (left := end - time.monotonic()) > 0:
            frame = self._receive(left)
            if frame is None:
                break
            if wanted(frame):
                return frame
            others += 1
        raise Timeout(f"{what} did not arrive on {self.device} within {timeout:g} s ({others} others did)")

    def expect_tunnel(self, timeout: float = 2.0) -> Tunnelled:
        """The next VXLAN or GENEVE packet, taken apart."""
        packet = decode_tunnel(self.expect(lambda f: decode_tunnel(f) is not None, timeout, "a tunnel packet"))
        assert packet is not None
        return packet

    def collect(self, seconds: float, wanted: Callable[[bytes], bool] = lambda _: True) -> list[bytes]:
        """What arrives during so many seconds."""
        end = time.monotonic() + seconds
        frames = []
        while (left := end - time.monotonic()) > 0:
            frame = self._receive(left)
            if frame is not None and wanted(frame):
                frames.append(frame)
        return frames

    def _receive(self, timeout: float) -> bytes | None:
        self.socket.settimeout(timeout or 0.000001)
        try:
            frame, ancillary, _, _ = self.socket.recvmsg(65536, 256)
        except (TimeoutError, BlockingIOError):
            return None
        return _with_vlan_tag(frame, ancillary)


def _with_vlan_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The kernel takes the outermost VLAN tag off and hands it over beside the frame: put it back."""
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= 20:
            status = int.from_bytes(data[0:4], "little")
            if status & 0x10:  # TP_STATUS_VLAN_VALID
                tci = data[16:18][::-1]
                tpid = data[18:20][::-1] if status & 0x40 else b"\x81\x00"
                return frame[:12] + tpid + tci + frame[12:]
    return frame
