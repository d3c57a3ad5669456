"""A root file system for test guests: busybox, iperf3, the distribution's kernel modules and a command loop.

Built once per kernel and kept in tests/.cache. Written as a "newc" cpio archive by hand: 110-byte ASCII headers, so
device nodes need neither mknod nor a scratch directory.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import subprocess
from pathlib import Path

from .proc import LabError, run

CACHE = Path(__file__).resolve().parent.parent / ".cache"

# Loaded at boot, dependencies first (modules.dep knows them).
BOOT_MODULES = ("virtio_pci", "virtio_net")
# There for tests that want them: `modprobe NAME` in the guest.
EXTRA_MODULES = ("8021q", "vxlan", "geneve", "veth", "bridge")
PROGRAMS = ("/usr/bin/iperf3",)

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in $(cat /etc/boot-modules); do modprobe $m; done
for w in $(cat /proc/cmdline); do
    case $w in
    weft.ip=*) ip addr add ${w#*=} dev eth0 ;;
    weft.mtu=*) ip link set eth0 mtu ${w#*=} ;;
    weft.nqueues=*) ;;
    esac
done
ip link set lo up
ip link set eth0 up
# Commands come over the second serial port, one a line: "ID BASE64". So do their answers.
stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2>/dev/null
echo "@ready"
while read -r id command; do
    echo "$command" | base64 -d > /tmp/command
    sh /tmp/command > /tmp/output 2>&1 < /dev/null
    code=$?
    echo "@begin $id"
    base64 /tmp/output
    echo "@end $id $code"
done
poweroff -f
"""


def kernel() -> tuple[Path, str]:
    """Newest installed distribution kernel and its version; raises with the package's name if there is none."""
    def age(image: Path) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", image.name)]

    for image in sorted(Path("/boot").glob("vmlinuz-*-amd64"), key=age, reverse=True):
        version = image.name.removeprefix("vmlinuz-")
        if Path(f"/lib/modules/{version}/modules.dep").exists():
            return image, version
    raise LabError("no /boot/vmlinuz-*-amd64 with its modules: apt-get install linux-image-amd64")


class _Cpio:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0
        self._made: set[str] = set()

    def _add(self, path: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        parent = os.path.dirname(path)
        if parent and parent not in self._made:
            self.directory(parent)
        self._inode += 1
        name = path.encode() + b"\0"
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(name), 0]
        head = b"070701" + "".join(f"{f:08x}" for f in fields).encode() + name
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
        self._made.add(path)

    def directory(self, path: str) -> None:
        if path not in self._made:
            self._add(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        if path not in self._made:
            self._add(path, stat.S_IFREG | mode, data)

    def character_device(self, path: str, major: int, minor: int) -> None:
        self._add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self) -> bytes:
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _modules(version: str) -> tuple[dict[str, bytes], str]:
    """Wanted modules with their dependencies: path -> contents, and the modules.dep for them."""
    root = Path("/lib/modules") / version
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (root / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        by_name[Path(path).name.split(".")[0].replace("-", "_")] = path
    # Drivers that virtio_pci does not name in modules.dep everywhere, because it finds them by symbol.
    queue = [by_name[m] for m in (*BOOT_MODULES, *EXTRA_MODULES) if m in by_name]
    missing = [m for m in BOOT_MODULES if m not in by_name]
    builtin = (root / "modules.builtin").read_text()
    if any(f"/{m}.ko" not in builtin for m in missing):
        raise LabError(f"kernel {version} has no module {', '.join(missing)}")
    wanted: dict[str, bytes] = {}
    lines = []
    while queue:
        path = queue.pop()
        plain = re.sub(r"\.xz$", "", path)
        if plain in wanted:
            continue
        data = (root / path).read_bytes()
        wanted[plain] = lzma.decompress(data) if path.endswith(".xz") else data
        lines.append(f"{plain}: {' '.join(re.sub(r'.xz$', '', d) for d in needs[path])}")
        queue += needs[path]
    return wanted, "\n".join(lines) + "\n"


def _libraries(program: str) -> list[str]:
    out = run(["ldd", program]).stdout
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", out, re.MULTILINE)


def build() -> Path:
    """Path of the initramfs for the installed kernel; made if it is not there yet."""
    _, version = kernel()
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    target = CACHE / f"initramfs-{version}-{recipe}.cpio"
    if target.exists():
        return target
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        raise LabError("busybox is missing: apt-get install busybox-static")
    archive = _Cpio()
    archive.file("init", INIT.encode(), 0o755)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.directory("dev")
    archive.character_device("dev/console", 5, 1)
    archive.file("etc/boot-modules", " ".join(BOOT_MODULES).encode() + b"\n")
    modules, dependencies = _modules(version)
    for path, data in modules.items():
        archive.file(f"lib/modules/{version}/{path}", data)
    archive.file(f"lib/modules/{version}/modules.dep", dependencies.encode())
    programs = [p for p in PROGRAMS if Path(p).exists()]
    if "dynamically linked" in subprocess.run(["file", "-L", busybox], capture_output=True, text=True).stdout:
        programs.append(str(busybox))
    for program in programs:
        for path in (program, *_libraries(program)):
            archive.file(path.lstrip("/"), Path(path).read_bytes(), 0o755)
    CACHE.mkdir(exist_ok=True)
    for old in CACHE.glob("initramfs-*.cpio"):
        old.unlink()
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(archive.finish())
    part.rename(target)
    return target
