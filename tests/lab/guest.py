"""Real virtual machines: QEMU under TCG, their virtio-net connected by vhost-user."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import initramfs
from .proc import Lab, LabError, Proc, Timeout, wait_for


@dataclass(frozen=True)
class Answer:
    """What a command in a guest printed (stdout and stderr) and its exit status."""

    output: str
    status: int


class _Line:
    """A line-based conversation over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wait_for(lambda: self._connect(), timeout, f"QEMU listens on {path.name}")
        self._buffer = b""

    def _connect(self) -> bool:
        try:
            self.socket.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def send(self, line: str) -> None:
        self.socket.settimeout(10)
        self.socket.sendall(line.encode() + b"\n")

    def line(self, timeout: float) -> str:
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout(f"nothing on {self.path.name} for {timeout:g} s (so far: {self._buffer[-200:]!r})")
            self.socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                data = self.socket.recv(65536)
                if not data:
                    raise LabError(f"{self.path.name} was closed by QEMU")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace").strip("\r")

    def close(self) -> None:
        self.socket.close()


class Guest:
    """One VM. The command loop of its init answers on a serial line, so tests need no network to talk to it.

    `server=False`: QEMU connects to the back-end's socket (and again if the back-end comes back).
    `server=True`: QEMU listens, the back-end connects; QEMU waits for that before it boots.
    """

    def __init__(
        self, lab: Lab, name: str, vhost_socket: Path, *, mac: str, ip: str = "", server: bool = False,
        queues: int = 1, mtu: int = 0, memory_mb: int = 160, packed: bool = False, cpus: set[int] | None = None,
    ) -> None:
        self.lab = lab
        self.name = name
        self.mac = mac
        self.vhost_socket = vhost_socket
        self._serial_path = lab.path(f"{name}.tty")
        self._qmp_path = lab.path(f"{name}.qmp")
        image, _ = initramfs.kernel()
        chardev = f"socket,id=vhost,path={vhost_socket}" + (",server=on,wait=off" if server else ",reconnect=1")
        multiqueue = f",queues={queues}" if queues > 1 else ""
        # Without vectors=0 QEMU 7.2 crashes under TCG: vhost-user wants MSI-X notifiers that TCG lacks.
        device = f"virtio-net-pci,netdev=net0,mac={mac},romfile=,vectors=0"
        device += ",mq=on" if queues > 1 else ""
        device += f",host_mtu={mtu}" if mtu else ""
        device += ",packed=on" if packed else ""
        words = ["quiet", "console=ttyS0", "panic=-1", "ipv6.disable=1", "mitigations=off", "nokaslr",
                 "random.trust_cpu=on", "tsc=reliable", "no_timer_check"]
        words += [f"weft.ip={ip}"] if ip else []
        self.argv = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "pc,accel=tcg", "-smp", str(max(1, queues)), "-m", f"{memory_mb}M",
            "-object", f"memory-backend-memfd,id=ram,size={memory_mb}M,share=on", "-numa", "node,memdev=ram",
            "-kernel", str(image), "-initrd", str(initramfs.build()), "-append", " ".join(words),
            "-chardev", f"socket,id=tty,path={self._serial_path},server=on,wait=off",
            "-chardev", chardev, "-netdev", f"vhost-user,id=net0,chardev=vhost{multiqueue}", "-device", device,
            "-serial", f"file:{lab.path(name + '-console.log')}", "-serial", "chardev:tty",
            "-qmp", f"unix:{self._qmp_path},server=on,wait=off",
        ]
        self._cpus = cpus
        self._id = 0
        self._line: _Line | None = None
        self._qmp: _Line | None = None
        self.proc: Proc
        self.start()

    def start(self) -> None:
        """Starts QEMU (again); returns before the guest has booted."""
        for path in (self._serial_path, self._qmp_path):
            path.unlink(missing_ok=True)
        self.close_lines()
        self.proc = self.lab.spawn(self.argv, name=f"qemu-{self.name}", cpus=self._cpus)
        # At once: what the guest says while nobody is connected would be lost.
        self._line = self._open(self._serial_path, 10)

    def wait_ready(self, timeout: float = 60) -> float:
        """Waits until the guest's command loop runs; returns how long this call took."""
        start = time.monotonic()
        assert self._line is not None
        while True:
            left = start + timeout - time.monotonic()
            self.proc.check()
            try:
                if self._line.line(min(left, 1.0)) == "@ready":
                    return time.monotonic() - start
            except Timeout:
                if left <= 1:
                    console = self.lab.path(f"{self.name}-console.log")
                    said = console.read_text(errors="replace")[-1500:] if console.exists() else ""
                    raise Timeout(f"guest {self.name} has not booted within {timeout:g} s:\n{said}") from None

    def _open(self, path: Path, timeout: float) -> _Line:
        def there() -> bool:
            self.proc.check()
            return path.exists()

        wait_for(there, timeout, f"QEMU of {self.name} makes {path.name}")
        return _Line(path, timeout)

    def run(self, command: str, *, check: bool = True, timeout: float = 30) -> Answer:
        """Runs a shell command in the guest."""
        assert self._line is not None, f"guest {self.name} is not running"
        self._id += 1
        self._line.send(f"{self._id} {base64.b64encode(command.encode()).decode()}")
        end = time.monotonic() + timeout
        body: list[str] | None = None
        while True:
            line = self._line.line(max(0.01, end - time.monotonic()))
            if line == f"@begin {self._id}":
                body = []
            elif line.startswith(f"@end {self._id} "):
                output = base64.b64decode("".join(body or [])).decode(errors="replace")
                answer = Answer(output, int(line.split()[2]))
                break
            elif body is not None:
                body.append(line)
        if check and answer.status:
            raise LabError(f"in guest {self.name} `{command}` ended with {answer.status}: {answer.output.strip()}")
        return answer

    def ping(self, target: str, *, count: int = 3, size: int = 56, wait: int = 1) -> int:
        """Number of echo replies to `count` requests."""
        words = ["ping", "-c", str(count), "-i", "0.1", "-W", str(wait), "-s", str(size), target]
        out = self.run(shlex.join(words), check=False, timeout=count * (wait + 1) + 10).output
        found = re.search(r"(\d+) packets received", out)
        return int(found[1]) if found else 0

    def wait_ping(self, target: str, timeout: float = 15) -> float:
        """Pings until one reply came; returns the seconds that took."""
        start = time.monotonic()
        wait_for(lambda: self.ping(target, count=1), timeout, f"{self.name} gets a reply from {target}")
        return time.monotonic() - start

    def qmp(self, command: str, **arguments: Any) -> Any:
        """A QEMU monitor command, for example `system_reset`."""
        if self._qmp is None:
            self._qmp = self._open(self._qmp_path, 10)
            self._qmp.line(10)  # the greeting
            self._qmp.send(json.dumps({"execute": "qmp_capabilities"}))
            self._qmp.line(10)
        self._qmp.send(json.dumps({"execute": command, "arguments": arguments}))
        while True:
            answer = json.loads(self._qmp.line(10))
            if "error" in answer:
                raise LabError(f"QMP {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def kill(self) -> None:
        """SIGKILL to QEMU: a host process that crashes."""
        self.proc.kill()
        self.close_lines()

    def close_lines(self) -> None:
        for line in (self._line, self._qmp):
            if line:
                line.close()
        self._line = self._qmp = None

    def stop(self) -> None:
        self.proc.stop()
        self.close_lines()
