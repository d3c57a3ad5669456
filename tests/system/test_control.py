"""The daemon and its command line: check, start, reload, API objects and their owners, exit codes, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import seqgen, site, testpmd, weft
from lab.netns import Netns
from lab.proc import Lab, run, wait_for
from lab.weft import Refused, Weft, names

BAD_FILE = """\
[workers]
cores = "zero"
[[uplink]]
name = "up0"
device = "net_af_packet0,iface=up0"
address = "192.168.50.1"
[[bd]]
name = "web"
vni = 16777216
vteps = ["nobody"]
colour = "red"
[[port]]
name = "vm1"
bd = "wbe"
type = "vhost-user"
socket = "relative.sock"
[[fdb]]
bd = "web"
mac = "03:00:00:00:00:01"
port = "vm1"
"""
# Lines of BAD_FILE with a mistake.
BAD_LINES = {2, 6, 9, 10, 11, 14, 16, 19}


@pytest.fixture
def plain(lab: Lab) -> tuple[site.Site, Weft]:
    """A host with one VM port `vm1` and a VTEP, all from the file."""
    host = site.local_site(lab)
    host.vtep("far", "192.168.50.2", "vxlan")
    host.bd("cloud", 100, ["far"])
    host.vm_port("vm1", "web")
    host.fdb("web", "02:00:00:00:00:01", port="vm1")
    return host, host.start(cores="0")


# --- files -----------------------------------------------------------------------------------------------------------

def named_lines(text: str, file: Path) -> set[int]:
    return {int(n) for n in re.findall(re.escape(file.name) + r":(\d+)", text)}


def test_check_accepts_a_good_file(lab: Lab) -> None:
    """--check needs neither root's devices nor hugepages: it only reads."""
    host = site.Site(lab, 1)
    host.bd("web", 100)
    host.vm_port("vm1", "web")
    daemon = Weft(lab, host.ns, host.config, start=False)
    done = daemon.check_file()
    assert done.returncode == 0, done.stderr
    assert not daemon.socket.exists()
    done = run([weft.weftctl(), "check", daemon.file], check=False)
    assert done.returncode == 0, done.stderr


def test_check_reports_every_error_at_once(lab: Lab) -> None:
    """With file, line, and a word on what to do."""
    file = lab.path("bad.toml")
    file.write_text(BAD_FILE)
    done = run([weft.weftd(), "--config", file, "--check"], check=False)
    text = done.stdout + done.stderr
    assert done.returncode not in (0, 101), text
    assert named_lines(text, file) >= BAD_LINES, f"not named: {BAD_LINES - named_lines(text, file)}\n{text}"
    assert '"web"' in text, "the nearest name is not suggested for `wbe`"
    started = run([weft.weftd(), "--config", file], check=False)
    assert started.returncode not in (0, 101)
    assert named_lines(started.stderr, file) >= BAD_LINES


@pytest.mark.parametrize("text", ["", "[[uplink", "x = ", "[daemon]\nsocket = 5\n", "\0", "[[port]]\n" * 3])
def test_broken_files_end_in_an_error(lab: Lab, text: str) -> None:
    file = lab.path("broken.toml")
    file.write_text(text)
    done = run([weft.weftd(), "--config", file, "--check"], check=False)
    assert done.returncode not in (0, 101) and done.returncode > 0, done
    assert "broken.toml" in done.stdout + done.stderr


def test_a_missing_file(lab: Lab) -> None:
    done = run([weft.weftd(), "--config", lab.path("none.toml")], check=False)
    assert done.returncode not in (0, 101) and "none.toml" in done.stderr


# --- reload ----------------------------------------------------------------------------------------------------------

def send_hup(daemon: Weft) -> None:
    reloads = daemon.ctl("status")["reloads"]
    daemon.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.ctl("status")["reloads"] == reloads + 1, 5, "SIGHUP is obeyed")


@pytest.mark.parametrize("trigger", [lambda d: d.ctl("reload"), send_hup], ids=["weftctl", "SIGHUP"])
def test_reload_adds_and_removes(plain: tuple[site.Site, Weft], trigger: Callable[[Weft], object]) -> None:
    host, daemon = plain
    config = host.copy_config()
    config["port"].append(weft.vhost_port("vm2", "cloud", host.lab.path("vm2.sock")))
    config["fdb"].append({"bd": "cloud", "mac": "02:00:00:00:00:02", "vtep": "far"})
    daemon.write(config)
    trigger(daemon)
    assert names(daemon.ctl("port", "list")) == ["vm1", "vm2"]
    assert host.lab.path("vm2.sock").exists()
    assert len(daemon.ctl("fdb", "list")) == 2
    daemon.write(host.config)
    trigger(daemon)
    assert names(daemon.ctl("port", "list")) == ["vm1"]
    assert not host.lab.path("vm2.sock").exists()
    assert len(daemon.ctl("fdb", "list")) == 1


def test_reload_reports_what_it_did(plain: tuple[site.Site, Weft]) -> None:
    host, daemon = plain
    config = host.copy_config()
    config["bd"].append({"name": "new", "vni": 7})
    config["bd"][1]["inner_vlan"] = "keep"
    config["fdb"] = []
    daemon.write(config)
    would = daemon.ctl("check")["would"]
    report = daemon.ctl("reload")
    assert report["added"] == ["bd new"] and report["changed"] == ["bd cloud"], report
    assert len(report["removed"]) == 1 and report["removed"][0].startswith("fdb"), report
    assert would == report, "`weftctl check` had said something else"
    config["uplink"][0]["mtu"] = 1500
    assert daemon.reload(config)["needs_restart"], "a setting that waits for a restart is named"


def test_reload_leaves_what_the_api_made(plain: tuple[site.Site, Weft]) -> None:
    host, daemon = plain
    daemon.ctl("vtep", "add", "v", "--address", "192.168.50.9")
    daemon.ctl("bd", "add", "b", "--vni", "200", "--vtep", "v")
    daemon.ctl("port", "add", "p", "--bd", "b", "--vhost-user", host.lab.path("p.sock"))
    daemon.ctl("fdb", "add", "02:00:00:00:00:09", "--bd", "b", "--port", "p")
    daemon.reload({**host.config, "fdb": []})
    daemon.reload(host.config)
    for noun, name in (("vtep", "v"), ("bd", "b"), ("port", "p")):
        owners = {row["name"]: row["owner"] for row in daemon.ctl(noun, "list")}
        assert owners[name] == "api", owners
        assert [owner for other, owner in owners.items() if other != name] != [], owners
        assert all(owner == "file" for other, owner in owners.items() if other != name), owners
    assert {(e["mac"], e["owner"]) for e in daemon.ctl("fdb", "list")} == {
        ("02:00:00:00:00:09", "api"), ("02:00:00:00:00:01", "file")}


def test_a_bad_file_changes_nothing(plain: tuple[site.Site, Weft]) -> None:
    _, daemon = plain
    before = [daemon.ctl(noun, "list") for noun in ("bd", "vtep", "fdb")]
    daemon.file.write_text(BAD_FILE)
    done = daemon.ctl_raw("reload")
    assert done.returncode == 1
    assert named_lines(done.stderr, daemon.file) >= BAD_LINES, done.stderr
    daemon.proc.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    daemon.proc.check()
    assert [daemon.ctl(noun, "list") for noun in ("bd", "vtep", "fdb")] == before
    assert daemon.ctl_raw("check").returncode == 1


def test_sockets_change_hands(plain: tuple[site.Site, Weft]) -> None:
    """Ports that exchange their sockets, and one that takes a removed one's, in one reload; or not at all."""
    host, daemon = plain
    sockets = [host.lab.path(f"{i}.sock") for i in range(3)]
    size = daemon.stats()["mempool"]["size"]

    def with_ports(*ports: tuple[str, Path]) -> dict[str, Any]:
        config = host.copy_config()
        config["port"] += [weft.vhost_port(name, "cloud", path) for name, path in ports]
        return config

    def running() -> dict[str, str]:
        return {p["name"]: p["socket"] for p in daemon.ctl("port", "list") if p["name"] != "vm1"}

    daemon.reload(with_ports(("a", sockets[0]), ("b", sockets[1]), ("c", sockets[2])))
    after = {"a": str(sockets[1]), "b": str(sockets[0]), "d": str(sockets[2])}
    report = daemon.reload(with_ports(*((name, Path(path)) for name, path in after.items())))
    assert report["changed"] == ["port a", "port b"] and report["removed"] == ["port c"], report
    assert running() == after and all(path.exists() for path in sockets)
    # Back again, but one of them can't be opened.
    with pytest.raises(Refused, match="e:"):
        daemon.reload(with_ports(("a", sockets[0]), ("b", sockets[1]), ("e", host.lab.path("none") / "e.sock")))
    assert running() == after and all(path.exists() for path in sockets)
    assert daemon.ctl("status")["alarms"] == []
    with pytest.raises(Refused, match="a:"):
        daemon.reload(with_ports(("b", sockets[1]), ("a", host.lab.path("none") / "a.sock")))
    assert running() == after and all(path.exists() for path in sockets)
    daemon.reload(host.config)
    assert running() == {} and not any(path.exists() for path in sockets)
    wait_for(lambda: daemon.stats()["mempool"]["size"] == size, 3, "the pools of gone ports are freed")


def test_a_port_that_can_not_be_put_back(plain: tuple[site.Site, Weft]) -> None:
    """Its alarm is shown, it is in nobody's way, and it comes back as soon as it can."""
    host, daemon = plain
    folder = host.lab.path("sockets")
    folder.mkdir()
    config = host.copy_config()
    config["port"].append(weft.vhost_port("a", "cloud", folder / "a.sock"))
    daemon.reload(config)
    (folder / "a.sock").unlink()
    folder.rmdir()
    config["port"][-1] = weft.vhost_port("a", "cloud", host.lab.path("none") / "a.sock")
    with pytest.raises(Refused, match="port a:"):
        daemon.reload(config)
    assert any("port a:" in alarm for alarm in daemon.ctl("status")["alarms"]), daemon.ctl("status")
    assert names(daemon.ctl("port", "list")) == ["vm1"]
    daemon.ctl("port", "add", "b", "--bd", "web", "--vhost-user", host.lab.path("b.sock"))
    daemon.ctl("port", "del", "b")
    folder.mkdir()
    wait_for(lambda: names(daemon.ctl("port", "list")) == ["a", "vm1"], 10, "the port is back")
    assert (folder / "a.sock").exists() and daemon.ctl("status")["alarms"] == []


# --- objects by API --------------------------------------------------------------------------------------------------

def test_every_noun_lists_in_both_forms(plain: tuple[site.Site, Weft]) -> None:
    _, daemon = plain
    for words in (["status"], ["worker", "list"], ["uplink", "list"], ["port", "list"], ["port", "show", "vm1"],
                  ["bd", "list"], ["vtep", "list"], ["fdb", "list"], ["fdb", "list", "--bd", "web"], ["neigh", "list"],
                  ["stats"], ["stats", "--port", "vm1"], ["drops"], ["check"]):
        assert daemon.ctl(*words) is not None, words
        text = daemon.ctl_raw(*words)
        assert text.returncode == 0 and text.stderr == "", (words, text.stderr)
        if words not in (["neigh", "list"], ["drops"]):
            assert text.stdout.strip(), words
            with pytest.raises(json.JSONDecodeError):
                json.loads(text.stdout)
    worker = daemon.ctl("worker", "list")[0]
    assert worker["core"] == 0 and "vm1:rx0" in worker["queues"], worker


def test_changes_and_their_refusals(plain: tuple[site.Site, Weft]) -> None:
    host, daemon = plain
    socket = host.lab.path("p.sock")
    daemon.ctl("bd", "add", "b", "--vni", "200", "--vtep", "far")
    daemon.ctl("port", "add", "p", "--bd", "b", "--vhost-user", socket)
    daemon.ctl("fdb", "add", "02:00:00:00:00:09", "--bd", "b", "--port", "p")
    refused = [
        (["bd", "add", "b", "--vni", "201"], "b"),  # the name is taken
        (["bd", "add", "c", "--vni", "200"], "200"),  # so is the VNI
        (["bd", "add", "c", "--vni", "202", "--vtep", "nobody"], "nobody"),
        (["bd", "del", "b"], "p"),  # not empty
        (["bd", "del", "web"], "file"),  # the file's
        (["port", "add", "p2", "--bd", "b", "--vhost-user", str(socket)], "p.sock"),
        (["port", "add", "p2", "--bd", "nobody", "--vhost-user", "/tmp/x.sock"], "nobody"),
        (["port", "add", "p2", "--bd", "b", "--device", "net_nothing0"], "net_nothing0"),
        (["port", "del", "vm1"], "file"),
        (["port", "del", "none"], "none"),
        (["vtep", "del", "far"], "file"),
        (["vtep", "add", "v", "--address", "192.168.50.2", "--encap", "vxlan"], "far"),
        (["vtep", "add", "v", "--address", "172.16.0.1"], "172.16.0.1"),  # off the subnet, and no gateway
        (["fdb", "add", "02:00:00:00:00:0a", "--bd", "b", "--port", "vm1"], "vm1"),  # a port of another network
        (["fdb", "add", "03:00:00:00:00:0a", "--bd", "b", "--port", "p"], "03:00:00:00:00:0a"),  # a group address
        (["fdb", "del", "02:00:00:00:00:0b", "--bd", "b"], "02:00:00:00:00:0b"),
    ]
    before = [daemon.ctl(noun, "list") for noun in ("bd", "vtep", "fdb")]
    for words, said in refused:
        with pytest.raises(Refused) as caught:
            daemon.ctl(*words)
        assert caught.value.code == 1, caught.value
        assert said in caught.value.message, caught.value
    assert [daemon.ctl(noun, "list") for noun in ("bd", "vtep", "fdb")] == before
    daemon.ctl("fdb", "del", "02:00:00:00:00:09", "--bd", "b")
    daemon.ctl("port", "del", "p")
    assert not socket.exists()
    daemon.ctl("bd", "del", "b")


def test_exit_codes(plain: tuple[site.Site, Weft]) -> None:
    host, daemon = plain
    assert daemon.ctl_raw("status").returncode == 0
    assert daemon.ctl_raw("port", "del", "none").returncode == 1
    for words in (["nonsense"], ["port"], ["port", "add"], ["fdb", "add", "not-a-mac", "--bd", "web", "--port", "vm1"],
                  ["bd", "add", "b", "--vni", "16777216"], ["port", "add", "p", "--bd", "web"]):
        assert daemon.ctl_raw(*words).returncode == 2, words
    gone = run([weft.weftctl(), "--socket", host.lab.path("none.sock"), "status"], check=False)
    assert gone.returncode == 3 and "none.sock" in gone.stderr
    by_environment = run([weft.weftctl(), "status"], check=False, env={"WEFT_SOCKET": str(daemon.socket)})
    assert by_environment.returncode == 0


# --- start and stop --------------------------------------------------------------------------------------------------

def test_stops_in_time_under_load(lab: Lab) -> None:
    """SIGTERM at full rate, with VMs connected: under a second, exit code 0, no sockets left."""
    host = site.local_site(lab)
    paths = [host.vm_port(f"vm{i}", "web") for i in (0, 1)]
    daemon = host.start(cores="0")
    flow = seqgen.Flow(tx=0, rx=1, src="02:00:00:00:00:01", dst="02:00:00:00:00:02", pps=0, must_arrive=False)
    # Not urgent: it shares a core with weftd's control threads, which no operator would starve.
    generator = seqgen.SeqGen(lab, [testpmd.virtio_user(i, path) for i, path in enumerate(paths)], [flow], urgent=False)
    generator.start()
    wait_for(lambda: generator.stats().received > 100_000, 10, "traffic flows")
    daemon.stop()
    assert not daemon.socket.exists() and not any(path.exists() for path in paths)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_idle(plain: tuple[site.Site, Weft], number: signal.Signals) -> None:
    _, daemon = plain
    begun = time.monotonic()
    daemon.proc.send_signal(number)
    assert daemon.proc.wait(5) == 0
    assert time.monotonic() - begun < weft.STOP_LIMIT


def test_start_says_what_is_missing(lab: Lab) -> None:
    """A device that is not there ends the start with its name, and leaves nothing behind."""
    ns = Netns(lab, "empty")
    config = {"uplink": [weft.uplink("none0", "192.168.50.1/24")], "bd": [{"name": "web"}]}
    daemon = Weft(lab, ns, config, start=False)
    proc = ns.spawn([weft.weftd(), "--config", daemon.file], name="weftd")
    assert proc.wait(20) not in (0, 101, -signal.SIGABRT, -signal.SIGSEGV)
    assert "none0" in proc.tail(), proc.tail()
    assert not daemon.socket.exists()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("idle", "least", "most"), [("backoff", 0.0, 0.5), ("poll", 0.5, 1.2)])
def test_idle_workers(lab: Lab, idle: str, least: float, most: float) -> None:
    """With nothing to do a worker backs off; told to poll, it polls."""
    host = site.local_site(lab)
    daemon = host.start(cores="0", idle=idle)
    time.sleep(1)
    before, begun = cpu_seconds(daemon.proc.pid), time.monotonic()
    time.sleep(2)
    share = (cpu_seconds(daemon.proc.pid) - before) / (time.monotonic() - begun)
    assert least <= share <= most, f"an idle weftd takes {share:.0%} of a core"


def test_state_of_the_process(plain: tuple[site.Site, Weft]) -> None:
    """Workers are pinned to their cores and named, and the socket is for its owner only."""
    _, daemon = plain
    pid = daemon.ctl("status")["pid"]
    assert pid == daemon.proc.pid
    assert daemon.socket.stat().st_mode & 0o007 == 0, "anybody may reconfigure the switch"
    pinned = [
        subprocess.run(["taskset", "-pc", task.name], capture_output=True, text=True, check=False).stdout.split()[-1]
        for task in Path(f"/proc/{pid}/task").iterdir()
        if "work" in (task / "comm").read_text()
    ]
    assert pinned == ["0"], pinned
