"""The systems that are measured: how each is started between the same two ports, and what it says of itself.

A VM port is vhost-user with the switch as the socket's client; the wire is memif with the switch as the server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from cases import Case, PEER_IP, SWITCH_IP, SWITCH_MAC, VNI

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MEMORY_MB = 512
RING = 1024
# FDB entries that weftd reads from its file; more of them go by `weftctl fdb apply`, which is faster.
FDB_IN_FILE = 100_000


class Failed(Exception):
    """A system or the generator did not do what it should."""


def program(name: str) -> Path:
    """A built program: from the environment (WEFTD, ...), or of the release build."""
    given = os.environ.get(name.upper().replace("-", "_"))
    path = Path(given or Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / name)
    if not os.access(path, os.X_OK):
        raise Failed(f"{path} is not there: run `make bench`, which builds it, or set {name.upper().replace('-', '_')}")
    return path.resolve()


class Switch:
    """One system under test, started for one run."""

    name = ""
    # Queues by which it may send to the wire.
    wire_queues = 1

    def __init__(self, case: Case, folder: Path, core: int, control_core: int) -> None:
        self.case, self.folder = case, folder
        self.core, self.control_core = core, control_core
        self.log = folder / f"{self.name}.log"
        self.proc: subprocess.Popen[bytes]

    def socket(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    def expect(self) -> str:
        """What the generator should receive."""
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def mark(self) -> None:
        """Called right before the traffic that counts, when the switch is warm."""

    def finish(self) -> dict[str, Any]:
        """Stops it; tells the TSC cycles per packet since `mark` (only rounds that had packets count) and what it
        says that it dropped."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:]) if self.log.exists() else ""

    def _spawn(self, argv: list[str]) -> None:
        with self.log.open("wb") as log:
            self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                                         cwd=self.folder)

    def _wait(self, ready: Any, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not ready():
            if self.proc.poll() is not None:
                raise Failed(f"{self.name} ended with {self.proc.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise Failed(f"{self.name} is not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def _end(self, sig: signal.Signals) -> None:
        if not hasattr(self, "proc") or self.proc.poll() is not None:
            return
        self.proc.send_signal(sig)
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait(10)


class Weft(Switch):
    name = "weft"

    def expect(self) -> str:
        return self.case.tunnel if self.case.kind == "encap" else "plain"

    def _config(self) -> str:
        case = self.case
        device = f"net_memif0,role=server,socket={self.socket('wire')},socket-abstract=no,id=0,rsize=10,mac={SWITCH_MAC}"
        vms = ["vm0", "vm1"] if case.kind == "l2" else ["vm0"]
        text = f"""
[daemon]
socket = "{self.socket('api')}"
log = "warn"
[dpdk]
memory_mb = {MEMORY_MB}
file_prefix = "weft-bench-{os.getpid()}"
extra_args = ["--single-file-segments"]
[workers]
cores = "{self.core}"
idle = "poll"
[[uplink]]
name = "up0"
device = "{device}"
address = "{SWITCH_IP}/24"
mtu = 1500
[[vtep]]
name = "peer"
address = "{PEER_IP}"
encap = "{case.tunnel}"
[[bd]]
name = "bench"
vni = {VNI}
vteps = ["peer"]
"""
        for vm in vms:
            text += f'[[port]]\nname = "{vm}"\nbd = "bench"\ntype = "vhost-user"\nsocket = "{self.socket(vm)}"\nmode = "client"\n'
            text += f"packed = {'true' if case.virtio == 'packed' else 'false'}\n"
        return text

    def _target(self) -> tuple[str, str]:
        """What the generator's destinations are behind."""
        return {"encap": ("vtep", "peer"), "decap": ("port", "vm0"), "l2": ("port", "vm1")}[self.case.kind]

    def start(self) -> None:
        kind, name = self._target()
        file = self.folder / "weft.toml"
        with file.open("w") as out:
            out.write(self._config())
            if self.case.flows <= FDB_IN_FILE:
                out.writelines(f'[[fdb]]\nbd = "bench"\nmac = "{mac}"\n{kind} = "{name}"\n' for mac in self.case.macs())
        self._spawn([str(program("weftd")), "--config", str(file)])
        self._wait(lambda: self.socket("api").exists() and self._ctl("status").returncode == 0, 60)
        if self.case.flows > FDB_IN_FILE:
            entries = self.folder / "fdb"
            with entries.open("w") as out:
                out.writelines(f"add bench {mac} {kind} {name}\n" for mac in self.case.macs())
            done = self._ctl("fdb", "apply", str(entries), seconds=120)
            if done.returncode:
                raise Failed(f"weftctl fdb apply: {done.stderr.strip() or done.stdout.strip()}")

    def _ctl(self, *words: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program("weftctl")), "--socket", str(self.socket("api")), "--json", *words],
                              capture_output=True, text=True, timeout=seconds, check=False)

    def _stats(self) -> dict[str, Any]:
        done = self._ctl("stats")
        if done.returncode:
            raise Failed(f"weftctl stats: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def mark(self) -> None:
        self._stats()  # cycles are since the time asked before

    def finish(self) -> dict[str, Any]:
        stats = self._stats()
        self.stop()
        return {"cycles_per_packet": stats["workers"][0]["cycles_per_packet"],
                "drops": {reason: n for reason, n in stats["drops"].items() if n}}

    def stop(self) -> None:
        self._end(signal.SIGTERM)


class Testpmd(Switch):
    """dpdk-testpmd in io mode: the same ports, no look at the packets. What the ports alone can do."""

    name = "testpmd"

    def expect(self) -> str:
        return "same"

    def start(self) -> None:
        vdevs = [f"net_vhost0,iface={self.socket('vm0')},client=1"]
        if self.case.kind == "l2":
            vdevs.append(f"net_vhost1,iface={self.socket('vm1')},client=1")
        else:
            vdevs.append(f"net_memif0,role=server,socket={self.socket('wire')},socket-abstract=no,id=0,rsize=10")
        argv = ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{self.control_core},1@{self.core}", "--no-pci", "--in-memory",
                "--single-file-segments", "--no-telemetry", "-m", str(MEMORY_MB), "--file-prefix", f"weft-bench-{os.getpid()}"]
        for vdev in vdevs:
            argv += ["--vdev", vdev]
        argv += ["--", "--forward-mode=io", "--nb-cores=1", f"--rxd={RING}", f"--txd={RING}", "--total-num-mbufs=16384",
                 "--record-core-cycles", "--no-lsc-interrupt", "--disable-link-check"]
        self._spawn(argv)
        self._wait(lambda: "packet forwarding - " in self.log.read_text(errors="replace"), 30)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def finish(self) -> dict[str, Any]:
        self.stop()
        # Of the totals, as memif forgets what it received when its peer leaves.
        text = self.log.read_text(errors="replace")
        cycles = re.search(r"total cycles=(\d+)", text)
        packets = max((int(n) for n in re.findall(r"[RT]X-total: (\d+)", text)), default=0)
        return {"cycles_per_packet": int(cycles[1]) / packets if cycles and packets else None, "drops": {}}
