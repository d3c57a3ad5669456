"""The root file system of a server with a NIC for weft: weftd, weftctl, DPDK's drivers, weft-host and what it calls.

Made anew for every run (a second's work), because weftd changes. It is the laboratory's guest (`lab.initramfs`) with
more in it: the same init, the same command loop.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab import initramfs, weft
from lab.proc import LabError, run

# Drivers that weftd needs here. DPDK loads every plug-in in its folder, so the others would only cost time.
PLUGINS = ("bus_pci", "bus_vdev", "mempool_ring", "net_af_packet", "net_e1000", "net_virtio")
# At boot, dependencies first: the NIC starts in its kernel driver's hands, as on any server.
BOOT_MODULES = ("virtio_pci", "virtio_net", "e1000e", "veth")
MODULES = (*BOOT_MODULES, "vfio_iommu_type1", "vfio-pci")
# Beside busybox: what the tests call, and what weft-host and dpdk-devbind.py call.
PROGRAMS = ("bash", "ethtool", "flock", "ip", "iperf3", "lspci")
# What dpdk-devbind.py imports, and what Python itself loads before and after.
PYTHON_MODULES = "argparse, glob, os, platform, subprocess, sys, encodings.ascii, encodings.latin_1"
DEVBIND = "dpdk-devbind.py"


class _Image(initramfs._Cpio):  # noqa: SLF001 - the laboratory's own writer of archives
    def link(self, path: str, target: str) -> None:
        if path not in self._made:
            self._add(path, 0o120777, target.encode())

    def copy(self, path: Path) -> None:
        """A file of this machine at the same place. A link stays a link: two copies of one library abort EAL."""
        # /bin, /lib and /sbin are links into /usr on Debian; in the image they are, too.
        path = Path(path.parent.resolve(), path.name)
        name = str(path).lstrip("/")
        if path.is_symlink():
            target = path.readlink()
            self.link(name, str(target))
            self.copy(path.parent / target)
        else:
            self.file(name, path.read_bytes(), path.stat().st_mode & 0o777)

    def program(self, path: Path) -> None:
        """A program or library with the libraries it needs."""
        self.copy(path)
        for library in initramfs._libraries(str(path)):  # noqa: SLF001
            self.copy(Path(library))


def _which(program: str, package: str = "") -> Path:
    for directory in ("/usr/sbin", "/usr/bin"):
        if (path := Path(directory, program)).exists():
            return path
    raise LabError(f"{program} is missing: apt-get install {package or program}")


def _plugin_folder() -> Path:
    folders = sorted(Path("/usr/lib/x86_64-linux-gnu/dpdk").glob("pmds-*"))
    if not folders:
        raise LabError("DPDK's drivers are missing: apt-get install dpdk librte-meta-all")
    return folders[-1]


def _kernel_modules(image: _Image, version: str) -> None:
    root = Path("/lib/modules") / version
    needs: dict[str, list[str]] = {}
    for line in (root / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    queue = [by_name[m.replace("-", "_")] for m in MODULES]
    lines: dict[str, str] = {}
    while queue:
        path = queue.pop()
        if path in lines:
            continue
        if not path.endswith(".ko"):
            raise LabError(f"{path}: kernel modules are compressed, which Debian 12 does not do")
        lines[path] = f"{path}: {' '.join(needs[path])}\n"
        image.file(f"usr/lib/modules/{version}/{path}", (root / path).read_bytes())
        queue += needs[path]
    image.file(f"usr/lib/modules/{version}/modules.dep", "".join(lines.values()).encode())
    # lspci reads kmod's indices to tell which drivers could be used.
    for name in ("dep", "alias", "symbols", "builtin", "builtin.alias"):
        if (path := root / f"modules.{name}.bin").exists():
            image.file(f"usr/lib/modules/{version}/{path.name}", path.read_bytes())


def _python(image: _Image) -> None:
    """Debian's Python with the modules that one script imports."""
    script = f"import {PYTHON_MODULES}\nfor m in list(sys.modules.values()): print(getattr(m, '__file__', None) or '')"
    python = Path("/usr/bin/python3")
    image.program(python)
    image.directory(f"usr/lib/{python.resolve().name}/lib-dynload")
    for name in run([python, "-I", "-c", script]).stdout.split():
        if name.startswith("/usr/lib/python3"):
            (image.program if ".so" in name else image.copy)(Path(name))


def build() -> Path:
    """Writes the image and returns its path."""
    _, version = initramfs.kernel()
    image = _Image()
    # The kernel's own root folder is open to all, which EAL refuses.
    image.directory(".")
    for link in ("bin", "sbin"):
        image.link(link, "usr/bin")
    image.link("usr/sbin", "bin")
    image.link("lib", "usr/lib")
    image.link("lib64", "usr/lib64")
    image.file("init", initramfs.INIT.encode(), 0o755)
    # Found first on the path: busybox installs its own tools only where nothing is.
    for name in PROGRAMS:
        path = _which(name, {"lspci": "pciutils", "flock": "util-linux", "ip": "iproute2"}.get(name, ""))
        for library in initramfs._libraries(str(path)):  # noqa: SLF001
            image.copy(Path(library))
        image.file(f"usr/bin/{name}", path.read_bytes(), 0o755)
    image.file("usr/bin/busybox", _which("busybox", "busybox-static").read_bytes(), 0o755)
    image.directory("dev")
    image.character_device("dev/console", 5, 1)
    image.directory("run")
    image.link("var/run", "/run")
    image.file("etc/boot-modules", " ".join(BOOT_MODULES).encode() + b"\n")
    _kernel_modules(image, version)
    for name, path in (("weftd", weft.weftd()), ("weftctl", weft.weftctl())):
        for library in initramfs._libraries(str(path)):  # noqa: SLF001
            image.copy(Path(library))
        image.file(f"usr/bin/{name}", path.read_bytes(), 0o755)
    folder = _plugin_folder()
    for plugin in PLUGINS:
        files = sorted(folder.glob(f"librte_{plugin}.so*"))
        if not files:
            raise LabError(f"DPDK's driver {plugin} is not in {folder}: apt-get install librte-meta-all")
        for path in files:
            image.program(path)
    _python(image)
    image.file(f"usr/bin/{DEVBIND}", _which(DEVBIND, "dpdk").read_bytes(), 0o755)
    scripts = weft.REPOSITORY / "hugepage-scripts"
    for path in (scripts / "weft-host", *sorted((scripts / "lib").glob("*.sh"))):
        image.file(f"opt/weft/{path.relative_to(scripts)}", path.read_bytes(), 0o755)
    initramfs.CACHE.mkdir(exist_ok=True)
    target = initramfs.CACHE / "nic-server.cpio"
    target.write_bytes(image.finish())
    return target


