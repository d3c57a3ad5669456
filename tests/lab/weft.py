"""weftd and weftctl under test: configuration from dicts, start and stop, statistics, and the books."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .netns import Netns
from .proc import Lab, LabError, Proc, Timeout, run, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STOP_LIMIT = 1.0  # seconds SIGTERM may take


def _program(name: str) -> Path | None:
    if given := os.environ.get(name.upper()):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / name
    if target.exists():
        return target
    found = shutil.which(name)
    return Path(found) if found else None


def missing() -> str:
    """What keeps weft's programs from being tested; empty if nothing does."""
    for name in ("weftd", "weftctl"):
        path = _program(name)
        if path is None or not os.access(path, os.X_OK):
            return f"{name} is not built ({path or 'target/release/' + name}): run `cargo build --release`, or set {name.upper()}"
    return ""


def weftd() -> Path:
    if problem := missing():
        raise LabError(problem)
    path = _program("weftd")
    assert path
    return path


def weftctl() -> Path:
    if problem := missing():
        raise LabError(problem)
    path = _program("weftctl")
    assert path
    return path


# --- configuration ---------------------------------------------------------------------------------------------------

Table = dict[str, Any]


def render(config: Mapping[str, Any]) -> str:
    """A dict as TOML: tables, arrays of tables, strings, numbers, booleans and lists of those."""
    lines: list[str] = []
    for name, value in config.items():
        tables = value if isinstance(value, list) else [value]
        for table in tables:
            lines.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            lines += [f"{key} = {_value(item)}" for key, item in table.items()]
            lines.append("")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Path):
        value = str(value)
    # JSON's strings, numbers and booleans are TOML's as well.
    return json.dumps(value)


def vhost_port(name: str, bd: str, socket: Path, *, mode: str = "server", queues: int = 1, packed: bool = False,
               **more: Any) -> Table:
    return {"name": name, "bd": bd, "type": "vhost-user", "socket": socket, "mode": mode, "queues": queues,
            "packed": packed, **more}


def ethdev_port(name: str, bd: str, device: str, **more: Any) -> Table:
    return {"name": name, "bd": bd, "type": "ethdev", "device": device, **more}


def af_packet(index: int, interface: str) -> str:
    """A kernel device as a DPDK port. 2,048-byte slots carry 1,600-byte IP packets."""
    return f"net_af_packet{index},iface={interface},framesz=2048,framecnt=512,blocksz=4096"


def pcap(index: int, interface: str) -> str:
    """The same by libpcap: slower, but every frame as it is. DPDK's af_packet puts IPv4 fragments together again
    (PACKET_FANOUT_FLAG_DEFRAG)."""
    return f"net_pcap{index},rx_iface_in={interface},tx_iface={interface}"


def uplink(interface: str, address: str, *, device: str = "", **more: Any) -> Table:
    return {"name": "up0", "device": device or af_packet(0, interface), "address": address, "mtu": 1600, "tap": "", **more}


# --- the running daemon ----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Refused(Exception):
    """weftctl ended with something else than 0."""

    code: int
    message: str
    command: str

    def __str__(self) -> str:
        return f"`weftctl {self.command}` ended with {self.code}: {self.message}"


@dataclass(frozen=True)
class Books:
    """What came in and where it went, in packets, over all workers and since start."""

    received: int
    replicas: int
    originated: int
    sent: int
    dropped: int
    consumed: int
    held: int

    def difference(self) -> int:
        return (self.received + self.replicas + self.originated) - (self.sent + self.dropped + self.consumed + self.held)


class Weft:
    """One weftd in a namespace, and weftctl for it."""

    def __init__(self, lab: Lab, ns: Netns, config: Mapping[str, Any], *, name: str = "weftd", cores: str = "0",
                 memory_mb: int = 256, idle: str = "backoff", start: bool = True, log: str = "info") -> None:
        self.lab = lab
        self.ns = ns
        self.name = lab.unique(name)
        self.socket = lab.path(f"{self.name}.sock")
        self.file = lab.path(f"{self.name}.toml")
        self._base: Table = {
            "daemon": {"socket": self.socket, "log": log},
            "dpdk": {"memory_mb": memory_mb, "hugepages": True, "file_prefix": f"weft-{lab.id}-{self.name}"},
            "workers": {"cores": cores, "idle": idle},
        }
        self.config: Table = {}
        self.write(config)
        self.proc: Proc
        lab.check_at_end(self._check_at_end)
        if start:
            self.start()

    def _check_at_end(self) -> None:
        """After every test: the books balance, and SIGTERM ends the daemon in time."""
        if hasattr(self, "proc") and self.proc.running():
            self.assert_books_balance()
            self.stop()

    def write(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration file; `config` holds everything but daemon, dpdk and workers (which it may extend)."""
        self.config = {key: dict(value) for key, value in self._base.items()}
        for key, value in config.items():
            if isinstance(value, Mapping):
                self.config.setdefault(key, {}).update(value)
            else:
                self.config[key] = [dict(item) for item in value]
        self.file.write_text(render(self.config))

    def start(self, timeout: float = 30) -> float:
        """Starts weftd and waits until it answers; returns how long that took."""
        begun = time.monotonic()
        self.proc = self.ns.spawn([weftd(), "--config", self.file], name=self.name)

        def answers() -> bool:
            self.proc.check()
            return self.socket.exists() and self.ctl_raw("status").returncode == 0

        wait_for(answers, timeout, f"{self.name} answers weftctl status", step=0.05)
        return time.monotonic() - begun

    def check_file(self) -> subprocess.CompletedProcess[str]:
        """`weftd --check` on the current file."""
        return run([weftd(), "--config", self.file, "--check"], check=False)

    def ctl_raw(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """weftctl as a user types it."""
        return run([weftctl(), "--socket", self.socket, *map(str, words)], check=False, timeout=30)

    def ctl(self, *words: str | Path) -> Any:
        """weftctl with --json: the parsed answer (None if it printed nothing); raises :class:`Refused`."""
        done = run([weftctl(), "--socket", self.socket, "--json", *map(str, words)], check=False, timeout=30)
        if done.returncode:
            raise Refused(done.returncode, done.stderr.strip(), " ".join(map(str, words)))
        return json.loads(done.stdout) if done.stdout.strip() else None

    def reload(self, config: Mapping[str, Any] | None = None) -> Any:
        if config is not None:
            self.write(config)
        return self.ctl("reload")

    def stop(self) -> float:
        """SIGTERM; weftd must have ended in under a second and with 0. Returns how long it took."""
        begun = time.monotonic()
        self.proc.send_signal(signal.SIGTERM)
        code = self.proc.wait(10)
        took = time.monotonic() - begun
        assert code == 0, f"{self.name} ended with {code} after SIGTERM:\n{self.proc.tail()}"
        assert took < STOP_LIMIT, f"{self.name} took {took:.2f} s to end after SIGTERM"
        return took

    # --- statistics --------------------------------------------------------------------------------------------------

    def stats(self) -> Table:
        return self.ctl("stats")

    def drops(self) -> dict[str, int]:
        """Drops by reason, those above zero."""
        return {reason: count for reason, count in self.stats()["drops"].items() if count}

    def port(self, name: str) -> Table:
        for port in self.stats()["ports"]:
            if port["name"] == name:
                return port
        raise LabError(f"weftctl stats shows no port {name}")

    def books(self) -> Books:
        return Books(**{key: int(value) for key, value in self.stats()["books"].items() if key in Books.__annotations__})

    def in_use(self) -> int:
        """Packet buffers that are not in the pool."""
        return int(self.stats()["mempool"]["in_use"])

    def assert_books_balance(self, timeout: float = 5) -> Books:
        """Not one packet unaccounted for, once traffic has come to rest."""
        books = self.books()
        end = time.monotonic() + timeout
        while True:
            time.sleep(0.1)
            now = self.books()
            if now == books and now.difference() == 0:
                return now
            if time.monotonic() > end:
                raise AssertionError(f"books of {self.name} do not balance by {now.difference()}: {now}")
            books = now

    def assert_no_leak(self, baseline: int, timeout: float = 5) -> None:
        """The pool is back where it was: nothing sent in between still holds a buffer."""
        try:
            wait_for(lambda: self.in_use() <= baseline, timeout, "buffers are back", step=0.1)
        except Timeout:
            raise AssertionError(f"{self.name} holds {self.in_use()} buffers, {baseline} before") from None


class DropCount:
    """Drops by reason since it was made: `with DropCount(weft) as drops: ...; drops.now()`."""

    def __init__(self, weft: Weft) -> None:
        self.weft = weft
        self.before = weft.stats()["drops"]

    def now(self) -> dict[str, int]:
        """Reasons whose count has risen, and by how much."""
        after = self.weft.stats()["drops"]
        return {reason: count - self.before.get(reason, 0) for reason, count in after.items()
                if count != self.before.get(reason, 0)}

    def wait(self, wanted: Mapping[str, int], timeout: float = 3) -> None:
        """Waits until exactly `wanted` was dropped."""
        try:
            wait_for(lambda: self.now() == dict(wanted), timeout, "drops")
        except Timeout:
            raise AssertionError(f"dropped {self.now()}, expected {dict(wanted)}") from None


def names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the objects in a list answer."""
    return sorted(str(row["name"]) for row in rows)
