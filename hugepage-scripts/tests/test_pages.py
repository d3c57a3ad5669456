"""weft-host takes hugepages and gives them back, on made-up hosts and once on this one."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from made_up_host import Host, KB_1G, KB_2M, SCRIPT


# ---- reserve and release ----------------------------------------------------------------------


def test_reserve_every_node_and_release(host):
    host.set_pages(0, 10)
    host.run("reserve", "--memory", 1024)
    assert (host.nr(0), host.nr(1)) == (512, 512)
    host.run("release")
    assert (host.nr(0), host.nr(1)) == (10, 0)
    assert not host.state.exists()


def test_memory_is_rounded_up_to_whole_pages(host):
    host.run("reserve", "--memory", 1025, "--node", 0)
    assert host.nr(0) == 513
    host.run("reserve", "--memory", 1025, "--node", 1, "--size", "1G")
    assert host.nr(1, KB_1G) == 2


def test_reserve_is_idempotent(host):
    host.run("reserve", "--pages", 100, "--node", 1)
    state = host.state.read_text()
    assert "enough" in host.run("reserve", "--pages", 100, "--node", 1)
    assert (host.nr(0), host.nr(1)) == (0, 100)
    assert host.state.read_text() == state


def test_reserve_never_lowers(host):
    host.set_pages(0, 3000)
    host.run("reserve", "--pages", 10, "--node", 0)
    assert host.nr(0) == 3000
    host.run("release")
    assert host.nr(0) == 3000


def test_free_counts_only_unused_pages(host):
    host.set_pages(0, 100, free=30)
    host.run("reserve", "--pages", 50, "--node", 0, "--free")
    assert host.nr(0) == 120


def test_several_reservations_unwind(host):
    host.set_pages(0, 5)
    for n in (10, 20, 40):
        host.run("reserve", "--pages", n, "--node", 0)
    assert host.nr(0) == 40
    host.run("release", "hugepages")
    assert host.nr(0) == 5


def test_release_keeps_what_others_added_meanwhile(host):
    host.run("reserve", "--pages", 100, "--node", 0)
    host.set_pages(0, 160)
    host.run("release")
    assert host.nr(0) == 60


@pytest.mark.parametrize("now, after", [(150, 100), (100, 100), (40, 40), (0, 0)])
def test_release_never_goes_below_what_was_there(host, now, after):
    host.set_pages(0, 100)
    host.run("reserve", "--pages", 200, "--node", 0)
    host.set_pages(0, now)  # somebody took pages away
    host.run("release")
    assert host.nr(0) == after


def test_a_short_kernel_gives_an_error_and_keeps_nothing(host):
    # A directory that swallows writes: /dev/null in place of the counter reads as nothing granted.
    host.set_pages(0, 0)
    nr = host.pages_dir(0, KB_2M) / "nr_hugepages"
    nr.unlink()
    nr.symlink_to("/dev/null")
    out = host.run("reserve", "--pages", 8, "--node", 0, rc=1)
    assert "the kernel found only" in out and "--boot" in out
    assert not host.state.exists()


def test_too_little_memory_is_refused_unless_forced(tmp_path):
    host = Host(tmp_path / "small", nodes=1, memory_mb=1024)
    out = host.run("reserve", "--memory", 600, rc=1)
    assert "1024 MB free" in out and "--force" in out
    assert host.nr(0) == 0
    host.run("reserve", "--memory", 600, "--force")
    assert host.nr(0) == 300


def test_without_1g_pages(host):
    import shutil

    shutil.rmtree(host.pages_dir(0, KB_1G))
    out = host.run("reserve", "--pages", 1, "--size", "1G", "--node", 0, rc=1)
    assert "no 1G hugepages" in out


def test_unknown_node(host):
    assert "no NUMA node 7" in host.run("reserve", "--pages", 1, "--node", 7, rc=1)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("frobnicate",),
        ("reserve",),
        ("reserve", "--pages"),
        ("reserve", "--pages", "-1"),
        ("reserve", "--pages", "1; true"),
        ("reserve", "--pages", "1", "--memory", "2"),
        ("reserve", "--pages", "1", "--size", "3M"),
        ("reserve", "--pages", "1", "extra"),
        ("reserve", "--pages", "1", "--noiommu"),
        ("release", "everything"),
        ("bind",),
        ("bind", "a", "b"),
        ("mount", "--path", "relative"),
        ("with", "--pages", "1"),
        ("check", "--memory", "x"),
    ],
)
def test_bad_usage_changes_nothing(host, args):
    before = host.snapshot()
    out = host.run(*args, rc=2)
    assert "Usage:" in out or "--help" in out
    assert host.snapshot() == before


def test_help(host):
    out = host.run("--help")
    for command in "check reserve mount bind unbind release status with".split():
        assert f"\n  {command} " in out
    assert host.run("reserve", "--help") == out


# ---- the next boot ----------------------------------------------------------------------------


def test_boot_all_nodes_is_a_sysctl(host):
    host.run("reserve", "--pages", 256, "--boot")
    f = host.root / "etc/sysctl.d/80-weft-hugepages.conf"
    assert f.read_text().splitlines()[-1] == "vm.nr_hugepages = 512"
    assert host.nr(0) == 0, "--boot changes nothing now"
    assert "already" in host.run("reserve", "--pages", 256, "--boot")
    host.run("release", "--boot")
    assert not f.exists()


def test_boot_per_node_is_a_tmpfile_line_each(host):
    f = host.root / "etc/tmpfiles.d/weft-hugepages.conf"
    host.run("reserve", "--pages", 256, "--node", 0, "--boot")
    host.run("reserve", "--pages", 128, "--node", 1, "--boot")
    host.run("reserve", "--pages", 300, "--node", 0, "--boot")
    lines = [x for x in f.read_text().splitlines() if not x.startswith("#")]
    path = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
    assert sorted(lines) == [f"w {path.format(0)} - - - - 300", f"w {path.format(1)} - - - - 128"]
    host.run("release", "--boot")
    assert not f.exists()


def test_boot_1g_is_a_hint_only(host):
    before = host.snapshot()
    out = host.run("reserve", "--pages", 4, "--size", "1G", "--boot")
    assert "hugepagesz=1G hugepages=0:4,1:4" in out
    assert host.snapshot() == before


def test_boot_leaves_a_strangers_file_alone(host):
    host.write("etc/sysctl.d/80-weft-hugepages.conf", "vm.nr_hugepages = 7\n")
    assert "somebody else" in host.run("reserve", "--pages", 1, "--boot", rc=1)
    assert "somebody else" in host.run("release", "--boot", rc=1)
    assert (host.root / "etc/sysctl.d/80-weft-hugepages.conf").read_text() == "vm.nr_hugepages = 7\n"


# ---- with -------------------------------------------------------------------------------------


def test_with_gives_back_and_passes_the_exit_code(host):
    host.set_pages(0, 3)
    count = host.pages_dir(0, KB_2M) / "nr_hugepages"
    out = host.run("with", "--pages", 10, "--node", 0, "--", "sh", "-c", f"echo in=$(cat {count}); exit 7", rc=7)
    assert "in=10" in out
    assert host.nr(0) == 3
    assert not list((host.root / "run").glob("*.state"))


def test_with_asks_sudo_for_the_pages_only(host):
    sudo = host.root / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$2" >> {host.root}/sudo.log\nexec "$@"\n')
    sudo.chmod(0o755)
    host.run("with", "--memory", 20, "--node", 1, "--free", "--", "true", WEFT_HOST_SUDO=str(sudo))
    assert (host.root / "sudo.log").read_text() == "reserve\nrelease\n"
    assert host.nr(1) == 0


def test_with_keeps_an_earlier_reservation(host):
    host.run("reserve", "--pages", 6, "--node", 0)
    host.run("with", "--pages", 10, "--node", 0, "--", "true")
    assert host.nr(0) == 6
    host.run("release")
    assert host.nr(0) == 0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_with_gives_back_after_a_signal(host, sig):
    p = subprocess.Popen(
        [SCRIPT, "with", "--pages", "10", "--node", "0", "--", "sh", "-c", "echo ready; exec sleep 60"],
        env=host.env(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while "ready" not in p.stdout.readline():
        pass
    if sig == signal.SIGINT:
        os.killpg(p.pid, sig)  # as a terminal sends it: to the whole foreground group
    else:
        p.send_signal(sig)
    assert p.wait(20) == 128 + sig
    assert host.nr(0) == 0
    assert not list((host.root / "run").glob("*.state"))


def test_release_finds_what_a_killed_run_left(host):
    p = subprocess.Popen(
        [SCRIPT, "with", "--pages", "10", "--node", "0", "--", "sh", "-c", "echo $$; exec sleep 60"],
        env=host.env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    child = next(int(line) for line in p.stdout if line.strip().isdigit())
    assert host.run("release") and host.nr(0) == 10, "a live run keeps its pages"
    p.kill()
    p.wait()
    os.kill(child, signal.SIGKILL)
    assert "left behind" in host.run("release")
    assert host.nr(0) == 0


def test_pages_stay_for_a_later_reservation_that_counted_on_them(host):
    first, second = host.root / "run/first.state", host.root / "run/second.state"
    host.set_pages(0, 1)
    host.run("reserve", "--pages", 10, "--node", 0, "--state", first)
    host.run("reserve", "--pages", 30, "--node", 0, "--state", second)
    host.run("release", "--state", first)
    assert host.nr(0) == 30
    assert second.read_text() == "hugepages 0 2048 1 29\n"
    host.run("release", "--state", second)
    assert host.nr(0) == 1


def test_several_at_once_undo_everything(host):
    """Every `with` writes the shared counter under the lock, and they end in any order."""
    runs = [
        subprocess.Popen(
            [SCRIPT, "with", "--pages", str(n), "--node", "0", "--", "sleep", "0.2"],
            env=host.env(),
            stdout=subprocess.DEVNULL,
        )
        for n in (10, 20, 30, 40)
    ]
    assert [p.wait(60) for p in runs] == [0] * 4
    assert host.nr(0) == 0


def test_a_busy_lock_is_waited_for(host):
    with open(host.root / "run/weft-host.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        p = subprocess.Popen([SCRIPT, "reserve", "--pages", "4", "--node", "0"], env=host.env(), stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        assert p.poll() is None and host.nr(0) == 0
    assert p.wait(20) == 0
    assert host.nr(0) == 4


# ---- the machine these tests run on -----------------------------------------------------------

REAL = pathlib.Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB")


@pytest.mark.skipif(os.geteuid() != 0 or not REAL.exists(), reason="needs root and NUMA node 0 with 2M pages")
def test_reserve_and_release_for_real(tmp_path):
    """Two pages more and back. Others may use pages at the same time, so only differences count."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_HOST_")}
    state = tmp_path / "real.state"
    env["WEFT_HOST_LOCK"] = str(tmp_path / "lock")

    def total():
        return int((REAL / "nr_hugepages").read_text())

    before = total()
    run = lambda *a: subprocess.run([SCRIPT, *a, "--state", state], env=env, check=True, timeout=60)  # noqa: E731
    run("reserve", "--pages", str(before + 2), "--node", "0")
    try:
        assert total() == before + 2
        assert state.read_text() == f"hugepages 0 2048 {before} 2\n"
    finally:
        run("release")
    assert total() == before
    assert not state.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not REAL.exists(), reason="needs root and NUMA node 0 with 2M pages")
def test_mount_for_real(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_HOST_")}
    env["WEFT_HOST_LOCK"] = str(tmp_path / "lock")
    state, point = tmp_path / "real.state", tmp_path / "huge"

    def mounted():
        return f" {point} hugetlbfs " in pathlib.Path("/proc/mounts").read_text()

    run = lambda *a: subprocess.run([SCRIPT, *a, "--state", state], env=env, check=True, timeout=60)  # noqa: E731
    run("mount", "--path", point)
    try:
        assert mounted()
    finally:
        run("release")
    assert not mounted()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
