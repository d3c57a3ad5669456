"""Servers for the tests with a bound NIC: one machine per NIC model, booted once. `make test-nic` runs these tests.

They need no hugepages of this host, and they are left out where the whole of `tests` is run: booting is slow.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from conftest import cannot_run
from lab import weft
from lab.proc import Lab, LabError, close_all, handle_signals

from . import server
from .server import E1000E, VIRTIO, Nic, Server, ServerWeft

HERE = Path(__file__).resolve().parent
BOOT_TIMEOUT = 180
# Everything in the guest is slow: an instruction costs many of the host's, and the host may be busy.
TEST_TIMEOUT = int(os.environ.get("WEFT_TEST_TIMEOUT", "240"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only if asked for by name."""
    asked = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in asked) else True


@pytest.fixture(scope="session", autouse=True)
def _host() -> Iterator[None]:
    if os.geteuid() != 0:
        cannot_run("tests with a bound NIC need root: a namespace and a TAP device")
    if missing := weft.missing():
        cannot_run(missing)
    if not Path("/dev/net/tun").exists():
        cannot_run("this kernel has no TAP devices (/dev/net/tun)")
    handle_signals()
    yield
    close_all()


class Machine:
    """A server, its weftd on the NIC, and the kernel at the other end of the cable."""

    def __init__(self, lab: Lab, nic: Nic) -> None:
        self.nic = nic
        self.lab = lab
        self.server = Server(lab, nic)
        self.server.wait_ready(BOOT_TIMEOUT)
        self.server.prepare()
        self.cable = self.server.cable
        self.cable.vxlan("vx0", server.VNI, server.PEER, server.VTEP, under="nic0", mac=server.FAR_MAC,
                         cidr=f"{server.FAR_TENANT}/24")
        self.wire = self.cable.wire("nic0")
        self.server.host("bind", server.ADDRESS)
        self.daemon = ServerWeft(self.server, server.overlay(nic), cores="0-1")
        self.daemon.start()
        self.cable.wait_ping(server.VTEP, 30)

    def report(self) -> str:
        """What the machine's programs have said."""
        console = self.lab.path(f"{self.nic.name}-console.log").read_text(errors="replace")
        parts = ["--- console ---", *console.splitlines()[-15:]]
        try:
            parts += ["--- kernel ---", self.server.run("dmesg | tail -n 15", check=False).output]
            if hasattr(self, "daemon"):
                parts += ["--- weftd ---", self.daemon.log()]
        except LabError as error:
            parts.append(f"(the guest does not answer: {error})")
        return "\n".join(parts)


@pytest.fixture(scope="session", params=[E1000E, VIRTIO], ids=lambda nic: nic.name)
def booted(request: pytest.FixtureRequest) -> Iterator[Machine]:
    lab = Lab(request.param.name)
    try:
        machine = Machine(lab, request.param)
        yield machine
        if machine.daemon.exit_code() is None:
            machine.daemon.stop()
    finally:
        lab.close()


@pytest.fixture
def machine(request: pytest.FixtureRequest, booted: Machine) -> Iterator[Machine]:
    """The machine with weftd forwarding; afterwards not one packet may be unaccounted for."""

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise LabError(f"the test takes longer than {TEST_TIMEOUT} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TEST_TIMEOUT)
    try:
        yield booted
        if getattr(request.node, "failed", False):
            sys.stderr.write("\n" + booted.report() + "\n")
        else:
            booted.daemon.assert_books_balance(20)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
