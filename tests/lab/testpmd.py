"""dpdk-testpmd as a "VM" (virtio-user), as a vhost back-end, or as a peer over memif."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .netns import Netns
from .proc import Lab, Timeout

_PROMPT = b"testpmd> "


def virtio_user(index: int, socket: Path, *, mac: str = "", server: bool = False, queues: int = 1,
                packed: bool = False, queue_size: int = 256, extra: str = "") -> str:
    """Arguments of a virtio-user device. `server=True`: testpmd listens and the switch connects."""
    words = [f"net_virtio_user{index}", f"path={socket}", f"queues={queues}", f"queue_size={queue_size}"]
    words += [f"mac={mac}"] if mac else []
    words += ["server=1"] if server else []
    words += ["packed_vq=1"] if packed else []
    words += [extra] if extra else []
    return ",".join(words)


def vhost(index: int, socket: Path, *, queues: int = 1, client: bool = False) -> str:
    """Arguments of a vhost back-end (what weftd is to a VM): for tests of the laboratory itself."""
    return f"net_vhost{index},iface={socket},queues={queues},client={int(client)}"


def memif(index: int, socket: Path, *, server: bool = False, mac: str = "", extra: str = "") -> str:
    """Arguments of a memif device; one side is the server."""
    words = [f"net_memif{index}", f"role={'server' if server else 'client'}", "id=0", f"socket={socket}",
             "socket-abstract=no"]
    words += [f"mac={mac}"] if mac else []
    words += [extra] if extra else []
    return ",".join(words)


@dataclass
class PortStats:
    """Counters of `show port stats`."""

    rx_packets: int = 0
    rx_missed: int = 0
    rx_bytes: int = 0
    rx_errors: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_bytes: int = 0
    time: float = field(default_factory=time.monotonic)

    def since(self, before: PortStats) -> Rates:
        seconds = self.time - before.time
        return Rates((self.rx_packets - before.rx_packets) / seconds, (self.tx_packets - before.tx_packets) / seconds)


@dataclass(frozen=True)
class Rates:
    """Packets per second over an interval."""

    rx_pps: float
    tx_pps: float


class Testpmd:
    """An interactive testpmd; `cmd` sends a line and returns what it printed."""

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(
        self, lab: Lab, vdevs: Sequence[str], *, name: str = "testpmd", cores: Sequence[int] = (1,), queues: int = 1,
        memory_mb: int = 256, ns: Netns | None = None, args: Sequence[str] = (), start_timeout: float = 30,
    ) -> None:
        self.name = lab.unique(name)
        # lcore 0 only reads commands and sleeps, so it shares a core with the first forwarding lcore.
        lcores = [f"0@{cores[0]}", *(f"{i + 1}@{core}" for i, core in enumerate(cores))]
        # stdbuf: prompts are written at once but answers would wait in a full stdio buffer.
        argv: list[str] = ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", ",".join(lcores), "-m", str(memory_mb),
                           "--in-memory", "--no-pci", "--single-file-segments", "--no-telemetry", "--file-prefix", f"weft-{lab.id}-{self.name}"]
        for vdev in vdevs:
            argv += ["--vdev", vdev]
        argv += ["--", "-i", "--no-mlockall", f"--nb-cores={len(cores)}", "--total-num-mbufs=16384", f"--rxq={queues}",
                 f"--txq={queues}", "--disable-link-check", *args]
        self.proc = (ns or lab).spawn(argv, name=self.name, pipes=True)
        self._output = b""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"{self.name} reader", daemon=True)
        self._reader.start()
        self._wait_prompt(start_timeout)

    def _read(self) -> None:
        assert self.proc.popen.stdout
        with self.proc.log.open("ab", buffering=0) as log:
            while data := self.proc.popen.stdout.read1(65536):  # type: ignore[attr-defined]
                log.write(data)
                with self._more:
                    self._output += data
                    self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def _wait_prompt(self, timeout: float) -> str:
        end = time.monotonic() + timeout
        with self._more:
            while _PROMPT not in self._output:
                if not self._reader.is_alive():
                    self.proc.check()
                left = end - time.monotonic()
                if left <= 0:
                    raise Timeout(f"{self.name} shows no prompt within {timeout:g} s:\n{self.proc.tail()}")
                self._more.wait(min(left, 0.5))
            text, _, self._output = self._output.rpartition(_PROMPT)
        return text.decode(errors="replace").replace("\r", "")

    def cmd(self, line: str, timeout: float = 10) -> str:
        """Sends one command and returns its output."""
        assert self.proc.popen.stdin
        with self._more:
            self._output = b""
        self.proc.popen.stdin.write(line.encode() + b"\n")
        self.proc.popen.stdin.flush()
        return self._wait_prompt(timeout)

    def start(self, mode: str = "", *, tx_first: int = 0) -> None:
        """Starts forwarding: `macswap`, `rxonly`, `txonly`, `flowgen`, `io`, `mac`, `icmpecho`..."""
        if mode:
            self.cmd(f"set fwd {mode}")
        self.cmd(f"start tx_first {tx_first}" if tx_first else "start")

    def stop_forwarding(self) -> None:
        self.cmd("stop")

    def generate(self, port: int, *, peer_mac: str, size: int = 64, flows: int = 0) -> None:
        """Sets up `txonly` (or, with `flows`, `flowgen`) from `port`: frames of `size` bytes (FCS not counted)."""
        self.cmd(f"set eth-peer {port} {peer_mac}")
        self.cmd(f"set txpkts {size}")
        self.cmd(f"set flow_flows {flows}" if flows else "set fwd txonly")

    def stats(self, port: int = 0) -> PortStats:
        text = self.cmd(f"show port stats {port}")
        stats = PortStats()
        for label, value in re.findall(r"([RT]X-\w+):\s+(\d+)", text):
            name = label.lower().replace("-", "_")
            if hasattr(stats, name):
                setattr(stats, name, int(value))
        return stats

    def rates(self, port: int = 0, seconds: float = 1.0) -> Rates:
        """Packets per second of a port over a while."""
        before = self.stats(port)
        time.sleep(seconds)
        return self.stats(port).since(before)

    def link_up(self, port: int = 0) -> bool:
        return "Link status: up" in self.cmd(f"show port info {port}")

    def mac(self, port: int = 0) -> str:
        found = re.search(r"MAC address: (\S+)", self.cmd(f"show port info {port}"))
        assert found, "testpmd shows no MAC address"
        return found[1].lower()

    def kill(self) -> None:
        """SIGKILL: a VM that crashes."""
        self.proc.kill()

    def stop(self) -> None:
        self.proc.stop()
