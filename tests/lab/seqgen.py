"""Numbered packets at a set rate (gen/seqgen.c): what a test uses to say "not one packet was lost"."""

from __future__ import annotations

import contextlib
import hashlib
import json
import selectors
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .netns import Netns
from .proc import Lab, LabError, Proc, Timeout, run, wait_for

_SOURCE = Path(__file__).resolve().parent.parent / "gen" / "seqgen.c"
_CACHE = Path(__file__).resolve().parent.parent / ".cache"


def build() -> Path:
    """Compiles the generator if its source has changed; returns the program."""
    flags = run(["pkg-config", "--cflags", "libdpdk"]).stdout
    libraries = run(["pkg-config", "--libs", "libdpdk"]).stdout
    key = hashlib.sha256(_SOURCE.read_bytes() + flags.encode()).hexdigest()[:12]
    program = _CACHE / f"seqgen-{key}"
    if not program.exists():
        _CACHE.mkdir(exist_ok=True)
        part = program.with_suffix(".part")
        run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", *shlex.split(flags), str(_SOURCE), "-o", str(part),
             *shlex.split(libraries)], timeout=120)
        part.rename(program)
    return program


@dataclass(frozen=True)
class Flow:
    """One stream from port `tx` to port `rx` (indexes into the list of devices). `pps=0`: as fast as possible.

    `must_arrive=False`: its losses are expected and not counted in :attr:`Stats.lost`.
    """

    tx: int
    rx: int
    src: str
    dst: str
    pps: int = 10_000
    size: int = 64
    sip: str = "10.0.0.1"
    dip: str = "10.0.0.2"
    must_arrive: bool = True

    def argument(self) -> str:
        return (f"tx={self.tx},rx={self.rx},src={self.src},dst={self.dst},sip={self.sip},dip={self.dip},"
                f"pps={self.pps},size={self.size}")


@dataclass(frozen=True)
class FlowStats:
    must_arrive: bool
    sent: int
    received: int
    misordered: int
    refused: int
    longest_gap_ms: float

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def since(self, before: FlowStats) -> FlowStats:
        return replace(self, sent=self.sent - before.sent, received=self.received - before.received,
                       misordered=self.misordered - before.misordered, refused=self.refused - before.refused)


@dataclass(frozen=True)
class Stats:
    """`stall_ms`: the longest time for which the generator's own loop did not run since the last start."""

    flows: tuple[FlowStats, ...]
    links: tuple[bool, ...]
    others: tuple[int, ...]
    misdelivered: int
    stall_ms: float
    now_ms: float

    @property
    def lost(self) -> int:
        return sum(flow.lost for flow in self.flows if flow.must_arrive)

    @property
    def misordered(self) -> int:
        return sum(flow.misordered for flow in self.flows)

    @property
    def received(self) -> int:
        return sum(flow.received for flow in self.flows)

    def since(self, before: Stats) -> Stats:
        """What was counted after `before`."""
        return replace(self, flows=tuple(a.since(b) for a, b in zip(self.flows, before.flows, strict=True)),
                       others=tuple(a - b for a, b in zip(self.others, before.others, strict=True)),
                       misdelivered=self.misdelivered - before.misdelivered)


def spawn(lab: Lab, vdevs: Sequence[str], flows: Sequence[Flow], *, core: int = 1, ns: Netns | None = None,
          memory_mb: int = 128, urgent: bool = True) -> Proc:
    """Starts the generator without waiting for it; :class:`SeqGen` does the talking.

    `urgent`: it goes before whatever else wants its core. Not where that is a worker, which would starve.
    """
    name = lab.unique("seqgen")
    argv = [str(build()), "--lcores", f"0@{core},1@{core}", "-m", str(memory_mb), "--in-memory", "--no-pci",
            "--single-file-segments", "--no-telemetry", "--file-prefix", f"weft-{lab.id}-{name}"]
    for vdev in vdevs:
        argv += ["--vdev", vdev]
    argv += ["--", *(flow.argument() for flow in flows)]
    proc = (ns or lab).spawn(argv, name=name, pipes=True)
    # The process has a session of its own, and with it a scheduling group that plain nice values do not reach out of.
    if urgent:
        with contextlib.suppress(OSError):
            Path(f"/proc/{proc.pid}/autogroup").write_text("-20")
    return proc


@dataclass
class Run:
    """A stretch of traffic; see :meth:`SeqGen.sending`."""

    result: Stats


class SeqGen:
    """The running generator."""

    def __init__(self, lab: Lab, vdevs: Sequence[str], flows: Sequence[Flow], *, core: int = 1,
                 ns: Netns | None = None, memory_mb: int = 128, urgent: bool = True) -> None:
        self.flows = list(flows)
        self.rates = [flow.pps for flow in flows]
        self.proc = spawn(lab, vdevs, flows, core=core, ns=ns, memory_mb=memory_mb, urgent=urgent)
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        assert self.proc.popen.stdout
        self._selector.register(self.proc.popen.stdout, selectors.EVENT_READ)
        self._answer(30)
        wait_for(lambda: all(self.stats().links), 15, f"all links of {self.proc.name} are up")

    def _answer(self, timeout: float = 5) -> Stats:
        assert self.proc.popen.stdout
        end = time.monotonic() + timeout
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                if line.startswith(b'{"flows"'):
                    return _parse(json.loads(line), self.flows)
                with self.proc.log.open("ab") as log:
                    log.write(line + b"\n")
            if not self._selector.select(max(0.0, end - time.monotonic())):
                raise Timeout(f"{self.proc.name} does not answer")
            data = self.proc.popen.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                self.proc.popen.wait(5)
                raise LabError(f"{self.proc.name} ended with {self.proc.popen.returncode}:\n{self.proc.tail()}")
            self._buffer += data

    def command(self, line: str) -> Stats:
        assert self.proc.popen.stdin
        self.proc.popen.stdin.write(line.encode() + b"\n")
        self.proc.popen.stdin.flush()
        return self._answer()

    def start(self, flow: int | None = None) -> Stats:
        return self.command("start" if flow is None else f"start {flow}")

    def rate(self, flow: int, pps: int) -> Stats:
        self.rates[flow] = pps
        return self.command(f"rate {flow} {pps}")

    def stats(self) -> Stats:
        return self.command("stats")

    def stop(self, flow: int | None = None, *, quiet: float = 0.3) -> Stats:
        """Stops sending and waits until nothing more has arrived for `quiet` seconds."""
        last = self.command("stop" if flow is None else f"stop {flow}")
        since = time.monotonic()
        while time.monotonic() - since < quiet:
            time.sleep(0.05)
            now = self.stats()
            if now.received != last.received and flow is None:
                since = time.monotonic()
            last = now
        return last

    def capacity(self, flow: int, seconds: float = 1.0) -> int:
        """Packets per second that come through when one flow is sent as fast as possible."""
        pps = self.rates[flow]
        self.rate(flow, 0)
        self.start(flow)
        time.sleep(0.1)
        before = self.stats()
        time.sleep(seconds)
        after = self.stats()
        self.stop(flow)
        self.rate(flow, pps)
        received = after.flows[flow].received - before.flows[flow].received
        return int(received * 1000 / (after.now_ms - before.now_ms))

    def send_for(self, seconds: float) -> Stats:
        """All flows for a while, then to the end of what is under way."""
        with self.sending() as run:
            time.sleep(seconds)
        return run.result

    @contextlib.contextmanager
    def sending(self) -> Iterator[Run]:
        """Sends while the block runs; its `result` says afterwards what happened in that time."""
        before = self.stats()
        run = Run(before)
        self.start()
        try:
            yield run
        finally:
            run.result = self.stop().since(before)

    def kill(self) -> None:
        """SIGKILL: a VM that crashes."""
        self.proc.kill()

    def close(self) -> None:
        self.proc.stop()

    def __enter__(self) -> SeqGen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def undisturbed(measure: Callable[[], Stats], *, limit_ms: float, attempts: int = 3) -> Stats:
    """Repeats a measurement in which the generator itself was off its core for too long.

    While it is, its receive rings overflow, and that says nothing about the switch. A run without a loss counts in
    any case, and the last attempt does, too.
    """
    result = measure()
    for _ in range(attempts - 1):
        if result.lost == 0 or result.stall_ms <= limit_ms:
            break
        result = measure()
    return result


def _parse(data: dict[str, Any], flows: Sequence[Flow]) -> Stats:
    ports = data["ports"]
    return Stats(
        flows=tuple(FlowStats(flow.must_arrive, **counted) for flow, counted in zip(flows, data["flows"], strict=True)),
        links=tuple(port["link"] for port in ports),
        others=tuple(port["others"] for port in ports),
        misdelivered=sum(port["misdelivered"] for port in ports),
        stall_ms=data["stall_ms"],
        now_ms=data["now_ms"],
    )
