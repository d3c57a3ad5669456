"""Runs weft-gen against a started switch."""

from __future__ import annotations

import json
import select
import subprocess
import time
from typing import Any

from cases import VIRTIO
from switches import Failed, Switch, program

MEMIF = "rsize=10,zero-copy=yes"
# Seconds of warming up that a flow may take, and those that every run may take. Open vSwitch handles the first packet
# of each flow in its slow path, which takes 20 to 100 us.
WARM_LIMIT, WARM_PER_FLOW = 30.0, 0.0003


def devices(switch: Switch) -> tuple[str, str]:
    """The generator's ends: sending, receiving."""
    def vm(n: int) -> str:
        return (f"net_virtio_user{n},path={switch.socket(f'vm{n}')},server=1,queues=1,mac=02:00:00:00:00:{n + 1:02x},"
                + VIRTIO[switch.case.virtio])

    wire = f"net_memif0,role=client,socket={switch.socket('wire')},socket-abstract=no,id=0,{MEMIF}"
    return {"encap": (vm(0), wire), "decap": (wire, vm(0)), "l2": (vm(0), vm(1))}[switch.case.kind]


class Generator:
    """One run. First `warm`, then `count`; `stop` in any case."""

    def __init__(self, switch: Switch, warm: float, seconds: float, rate: float | None) -> None:
        case = switch.case
        tx, rx = devices(switch)
        self.switch, self.seconds = switch, seconds
        self.limit = warm + WARM_LIMIT + WARM_PER_FLOW * case.flows
        argv = [str(program("weft-gen")), "--core", str(switch.control_core), "--tx", tx, "--rx", rx,
                "--send", case.tunnel if case.kind == "decap" else "plain", "--expect", switch.expect(),
                "--rx-queues", str(switch.wire_queues if case.kind == "encap" else 1), "--flows", str(case.flows),
                "--size", case.size, "--warm", str(warm), "--warm-limit", str(self.limit), "--seconds", str(seconds), "--gate"]
        if rate is not None:
            argv += ["--latency", "--rate", f"{rate:.0f}"]
        self.errors = (switch.folder / "weft-gen.log").open("w+")
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0)

    def warm(self) -> None:
        """Until all flows are known to the switch and nothing is on its way."""
        self._line("warm", 30 + self.limit)

    def count(self) -> dict[str, Any]:
        """The part that is counted; its result."""
        assert self.proc.stdin
        self.proc.stdin.write(b"\n")
        self.proc.stdin.flush()
        result = self._line("{", 30 + self.seconds)
        self.proc.wait(20)
        return dict(json.loads(result))

    def stop(self) -> None:
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(10)
        self.errors.close()

    def _line(self, beginning: str, seconds: float) -> str:
        """The next line that begins like this; DPDK writes lines of its own."""
        assert self.proc.stdout
        end = time.monotonic() + seconds
        while select.select([self.proc.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            line = self.proc.stdout.readline().decode()
            if not line:
                self.errors.seek(0)
                raise Failed(f"{self.errors.read().strip()}\n{self.switch.tail()}")
            if line.startswith(beginning):
                return line
        raise Failed(f"weft-gen did not come to its line '{beginning}' in {seconds:.0f} s:\n{self.switch.tail()}")
