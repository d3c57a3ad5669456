"""setup-deps.sh with made-up apt, dpkg and rustc in front of the real ones: it must install what is
missing, nothing else, start no service, and tell the way on where it cannot."""

import pathlib
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "setup-deps.sh"
TOOLS = "bash sh env sed awk sort head cat printf id mktemp rm chmod tee".split()


class Box:
    """A PATH of its own, in which every tool that would change the host only writes to a log."""

    def __init__(self, root):
        self.bin, self.log, self.root = root / "bin", root / "log", root
        self.bin.mkdir()
        for t in TOOLS:
            (self.bin / t).symlink_to(shutil.which(t))
        self.log.touch()
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text("MemTotal: 33554432 kB\n")
        self.kernel()
        self.tool("rustc", "echo rustc 1.90.0 '(x)'")
        self.tool("cargo", "")
        self.tool("sudo", 'exec "$@"')
        self.policy = root / "policy-rc.d"

    def kernel(self, name="6.1.0-1-amd64"):
        (self.root / "boot").mkdir(exist_ok=True)
        (self.root / f"boot/vmlinuz-{name}").touch()
        (self.root / f"lib/modules/{name}/kernel/net").mkdir(parents=True)

    def tool(self, name, body):
        f = self.bin / name
        f.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{body}\n')
        f.chmod(0o755)

    def debian(self, missing=(), listed=True):
        gone = "|".join(missing) or "-"
        self.tool("dpkg-query", f'for p; do :; done; case $p in {gone}) exit 1;; *) printf installed;; esac')
        self.tool("apt-cache", f"[ -e {self.root}/updated ] || {'true' if listed else 'exit 0'}; echo '  Candidate: 1.0'")
        self.tool("apt-get", f'case $1 in update) : > {self.root}/updated;; esac')

    def run(self, *args, rc=0, **env):
        env = {"PATH": str(self.bin), "HOME": str(self.root), "WEFT_DEPS_ROOT": str(self.root), "WEFT_DEPS_POLICY": str(self.policy), **env}
        p = subprocess.run([SCRIPT, *args], env=env, capture_output=True, text=True, timeout=60)
        assert p.returncode == rc, f"exit {p.returncode}, wanted {rc}\n{p.stdout}\n{p.stderr}"
        return p.stdout + p.stderr

    def called(self, start):
        return [x for x in self.log.read_text().splitlines() if x.startswith(start)]


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


def test_nothing_missing_calls_no_apt(box):
    box.debian()
    assert "everything is there" in box.run()
    assert not box.called("apt-get") and not box.called("apt-cache")


def test_installs_only_what_is_missing(box):
    box.debian(missing=("tshark", "libdpdk-dev"))
    assert "libdpdk-dev tshark" in box.run("--dry-run")
    assert not box.called("apt-get")


@pytest.mark.parametrize("listed", [True, False])
def test_an_install_is_quiet_and_starts_no_service(box, listed):
    box.debian(missing=("openvswitch-switch", "tshark"), listed=listed)
    # While apt works, policy-rc.d must forbid service starts; afterwards it must be gone.
    box.tool(
        "apt-get",
        f"case $1 in update) : > {box.root}/updated;; install) {box.policy}; echo \"policy $? $DEBIAN_FRONTEND\" >> {box.log};; esac",
    )
    box.tool("systemctl", "")
    box.run()
    assert [x.split()[1] for x in box.called("apt-get")] == (["install"] if listed else ["update", "install"])
    assert box.called("apt-get install")[0].endswith("--no-install-recommends tshark openvswitch-switch")
    assert box.called("policy") == ["policy 101 noninteractive"]
    assert not box.policy.exists()


def test_a_failing_install_is_told_and_leaves_no_policy(box):
    box.debian(missing=("tshark",))
    box.tool("apt-get", "exit 100")
    assert "apt-get install failed" in box.run(rc=1)
    assert not box.policy.exists()


def test_another_distribution_is_told_what_to_install(box):
    out = box.run(rc=1)
    for text in ("libdpdk-dev", "qemu-system-x86", "22.11", "SKIP_DEPS=1"):
        assert text in out


def test_groups(box):
    box.debian(missing=("tshark", "libdpdk-dev"))
    out = box.run("build", "--check", rc=1)
    assert "libdpdk-dev" in out and "tshark" not in out
    out = box.run("test", "--check", rc=1)
    assert "tshark" in out and "libdpdk-dev" not in out
    box.run("tests", rc=2)


def test_a_cloud_kernel_does_not_count(box):
    box.debian(missing=("linux-image-amd64",))
    box.run("--check")
    (box.root / "boot/vmlinuz-6.1.0-1-amd64").unlink()
    box.kernel("6.1.0-1-cloud-amd64")
    assert "linux-image-amd64" in box.run("--check", rc=1)


@pytest.mark.parametrize("version, rc", [("1.87.9", 1), ("1.9.0", 1), ("1.88.0", 0), ("1.100.0", 0), ("1.88.0-nightly", 0)])
def test_the_age_of_rust(box, version, rc):
    box.debian()
    box.tool("rustc", f"echo rustc {version} '(x)'")
    out = box.run(rc=rc)
    assert ("rustup update stable" in out) == bool(rc)


def test_no_rust_is_fetched_from_the_official_place(box):
    box.debian()
    (box.bin / "rustc").unlink()
    assert "https://rustup.rs" in box.run("--dry-run")
    box.tool("curl", "exit 6")
    assert "cannot be fetched" in box.run(rc=1)
    assert "https://sh.rustup.rs" in box.called("curl")[0]


def test_little_memory_is_said(box):
    box.debian()
    (box.root / "proc/meminfo").write_text("MemTotal: 2048000 kB\n")
    assert "2000 MB of memory" in box.run()
