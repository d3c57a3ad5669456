"""A server with a NIC of its own: a QEMU guest with an IOMMU, in whose kernel DPDK drives the NIC through vfio-pci.

The NIC's cable is a TAP device in a namespace of the test: what weftd sends from the guest arrives there, and there the
kernel's vxlan device answers. weftd's tenant is the guest's own kernel, behind a veth pair (weftd has `v0`).
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import initramfs, weft
from lab.guest import Answer, Guest
from lab.netns import Netns
from lab.proc import Lab, LabError, wait_for
from lab.weft import Refused, Weft

from . import image

ADDRESS = "0000:00:02.0"
NIC_MAC = "52:54:00:aa:00:01"
VTEP, PEER = "192.168.50.1", "192.168.50.2"
TENANT, FAR_TENANT = "10.0.0.1", "10.0.0.2"
FAR_MAC = "02:00:00:00:00:02"
VNI = 100
UNDERLAY_MTU = 1600
CORES = 2


@dataclass(frozen=True)
class Nic:
    """A NIC model of QEMU."""

    name: str
    model: str
    queues: int
    kernel_driver: str
    dpdk_driver: str

    def device(self) -> str:
        # romfile=: no firmware that tries to boot from the network.
        return f"{self.model},netdev=net0,mac={NIC_MAC},romfile=,addr=2"


E1000E = Nic("e1000e", "e1000e", 1, "e1000e", "net_e1000_em")
# Its DMA goes through the IOMMU like that of hardware only with iommu_platform, for which it must be a modern device.
VIRTIO = Nic("virtio", f"virtio-net-pci,disable-legacy=on,iommu_platform=on,mq=on,rss=on,vectors={2 * CORES + 2}", CORES,
             "virtio-pci", "net_virtio")


class Server(Guest):
    """The machine. It starts with the NIC in the kernel's hands."""

    def __init__(self, lab: Lab, nic: Nic) -> None:  # noqa: PLW0231 - another machine, the same ways to talk to it
        self.lab = lab
        self.name = nic.name
        self.nic = nic
        self.mac = NIC_MAC
        self.cable = Netns(lab, "cable")
        # QEMU opens it as we made it: with as many queues, and without offload headers, so that what the kernel
        # sends over it has its checksums filled in, as on a wire.
        many = ["multi_queue"] if nic.queues > 1 else []
        self.cable.ip("tuntap", "add", "dev", "nic0", "mode", "tap", *many)
        self.cable.ip("link", "set", "nic0", "mtu", str(UNDERLAY_MTU), "up")
        self.cable.address("nic0", f"{PEER}/24")
        self._serial_path = lab.path(f"{nic.name}.tty")
        self._qmp_path = lab.path(f"{nic.name}.qmp")
        kernel, _ = initramfs.kernel()
        words = ["quiet", "console=ttyS0", "panic=-1", "ipv6.disable=1", "mitigations=off", "nokaslr",
                 "random.trust_cpu=on", "tsc=reliable", "no_timer_check", "intel_iommu=on"]
        queues = f",queues={nic.queues}" if nic.queues > 1 else ""
        self.argv = self.cable.command([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(CORES), "-m", "1024M",
            # caching-mode is for passed-through devices; emulated ones see every mapping.
            "-device", "intel-iommu,intremap=off",
            "-kernel", str(kernel), "-initrd", str(image.build()), "-append", " ".join(words),
            "-netdev", f"tap,id=net0,ifname=nic0,script=no,downscript=no,vnet_hdr=off{queues}",
            "-device", nic.device(),
            "-chardev", f"socket,id=tty,path={self._serial_path},server=on,wait=off",
            "-serial", f"file:{lab.path(nic.name + '-console.log')}", "-serial", "chardev:tty",
            "-qmp", f"unix:{self._qmp_path},server=on,wait=off",
        ])
        self._cpus = None
        self._id = 0
        self._line = self._qmp = None
        self.start()

    def prepare(self) -> None:
        """What an administrator does before weftd: hugepages, vfio. The NIC is left where it is."""
        # QEMU's IOMMU does no interrupt remapping; a machine that does needs no such word.
        self.run("modprobe vfio_iommu_type1 allow_unsafe_interrupts=1")
        self.run("modprobe vfio-pci")
        self.host("reserve", "--pages", "150")
        self.host("mount")
        # /bin/ip: the shell would run its own ip, which cannot name both ends.
        self.run("/bin/ip link add v0 type veth peer name v1 && ethtool -K v0 tx off && ethtool -K v1 tx off rx off && "
                 f"ip link set v0 up && ip addr add {TENANT}/24 dev v1 && ip link set v1 up", timeout=60)

    def host(self, *words: str, check: bool = True) -> Answer:
        """weft-host, as it is in the repository."""
        return self.run("/opt/weft/weft-host " + " ".join(words), check=check, timeout=90)

    def driver(self) -> str:
        """The kernel driver that has the NIC; empty: none."""
        link = self.run(f"readlink /sys/bus/pci/devices/{ADDRESS}/driver", check=False).output.strip()
        return link.rpartition("/")[2]

    def put(self, path: str, text: str) -> None:
        self.run(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d > {path}")

    def plug(self, up: bool) -> None:
        """Puts the NIC's cable in or pulls it out."""
        self.qmp("set_link", name="net0", up=up)


def overlay(nic: Nic, **uplink: Any) -> dict[str, Any]:
    """weftd's configuration: the NIC by its PCI address, one tenant network, one remote VTEP."""
    return {
        "uplink": [{"name": "up0", "device": ADDRESS, "address": f"{VTEP}/24", "mtu": UNDERLAY_MTU, "tap": "", **uplink}],
        "vtep": [{"name": "far", "address": PEER, "encap": "vxlan"}],
        "bd": [{"name": "web", "vni": VNI, "vteps": ["far"]}],
        "port": [weft.ethdev_port("t0", "web", weft.af_packet(0, "v0"), mtu=1500)],
    }


class ServerWeft(Weft):
    """weftd on the server; everything that `lab.weft.Weft` reads by weftctl is read there."""

    def __init__(self, server: Server, config: Mapping[str, Any], *, cores: str) -> None:  # noqa: PLW0231
        self.lab = server.lab
        self.server = server
        self.name = self.lab.unique("weftd")
        self.socket = Path(f"/run/{self.name}.sock")
        self.file = self.lab.path(f"{self.name}.toml")
        self._log, self._code = f"/tmp/{self.name}.log", f"/tmp/{self.name}.code"
        self._base = {
            "daemon": {"socket": self.socket, "log": "info"},
            "dpdk": {"memory_mb": 256, "hugepages": True, "file_prefix": "weft"},
            "workers": {"cores": cores, "idle": "backoff"},
        }
        self.write(config)

    def start(self, timeout: float = 60) -> float:
        """Starts weftd and waits until it answers; returns how long that took."""
        begun = time.monotonic()
        self.launch()

        def answers() -> bool:
            if (code := self.exit_code()) is not None:
                raise LabError(f"weftd ended with {code}:\n{self.log()}")
            return self.ctl_raw("status").returncode == 0

        wait_for(answers, timeout, "weftd on the server answers weftctl status", step=0.2)
        return time.monotonic() - begun

    def launch(self) -> None:
        """Starts weftd and returns at once."""
        self.server.put("/etc/weft.toml", self.file.read_text())
        self.server.run(f"rm -f {self._code}; "
                        f"(setsid weftd --config /etc/weft.toml > {self._log} 2>&1; echo $? > {self._code}) "
                        "> /dev/null 2>&1 &")

    def exit_code(self) -> int | None:
        """The status weftd ended with; None while it runs."""
        text = self.server.run(f"cat {self._code} 2>/dev/null", check=False).output.strip()
        return int(text) if text else None

    def log(self) -> str:
        return self.server.run(f"tail -n 40 {self._log}", check=False).output

    def ctl_raw(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = " ".join(["weftctl", "--socket", str(self.socket), *map(str, words)])
        answer = self.server.run(command, check=False, timeout=60)
        return subprocess.CompletedProcess([command], answer.status, answer.output, answer.output)

    def ctl(self, *words: str | Path) -> Any:
        done = self.ctl_raw("--json", *words)
        if done.returncode:
            raise Refused(done.returncode, done.stderr.strip(), " ".join(map(str, words)))
        return json.loads(done.stdout) if done.stdout.strip() else None

    def uplink(self) -> dict[str, Any]:
        return self.ctl("uplink", "list")[0]

    def signal(self, name: str) -> int:
        """Sends weftd a signal and waits for its end; returns its exit status (128 + number: killed by the signal)."""
        self.server.run(f"kill -{name} $(pidof weftd)")
        return wait_for(lambda: (self.exit_code() is not None and (self.exit_code(),)) or None, 30,
                        f"weftd ends after SIG{name}", step=0.1)[0] or 0

    def stop(self) -> float:
        begun = time.monotonic()
        code = self.signal("TERM")
        assert code == 0, f"weftd ended with {code} after SIGTERM:\n{self.log()}"
        return time.monotonic() - begun
