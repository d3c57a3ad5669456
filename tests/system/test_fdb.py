"""Forwarding entries over the API: streams of batches, what the file and the API make side by side, and ports that are
made anew under their entries."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import site, weft
from lab.netns import Netns, Wire
from lab.proc import Lab
from lab.weft import Refused, Weft

MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 6)]


@pytest.fixture
def three(lab: Lab) -> tuple[site.Site, Weft, list[Wire]]:
    """A host with three ports in `web`, of which the test sees every frame, and a VTEP in it."""
    host = site.Site(lab, 1)
    host.underlay(Netns(lab, "nowhere"), "eth0")
    host.vtep("far", "192.168.50.2", "vxlan")
    host.bd("web", 100, ["far"])
    wires = [host.raw_port(name, "web") for name in ("pa", "pb", "pc")]
    daemon = host.start(cores="0")
    for name in ("pa", "pb", "pc"):
        site.wait_port(daemon, name)
    return host, daemon, wires


def frame(dst: str, number: int) -> bytes:
    mac = bytes.fromhex(dst.replace(":", ""))
    return mac + bytes.fromhex("020000000063") + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(42)


def assert_reaches(wires: list[Wire], dst: str, number: int, *ports: str) -> None:
    """A frame that is sent from `pa` arrives at these of `pb` and `pc`, and not at the other."""
    sent = frame(dst, number)
    wires[0].send(sent)
    others = dict(zip(("pb", "pc"), wires[1:], strict=True))
    for port in ports:
        others.pop(port).expect(lambda f: f == sent, 5, f"frame {number}")
    for name, wire in others.items():
        assert not wire.collect(0.2, lambda f: f == sent), f"frame {number} arrived at {name}, too"


def apply(daemon: Weft, folder: Path, text: str, *words: str) -> dict[str, int]:
    file = folder / "changes"
    file.write_text(text)
    return dict(daemon.ctl("fdb", "apply", file, *words))


def counts(done: dict[str, int]) -> tuple[int, int, int, int]:
    return done["added"], done["replaced"], done["removed"], done["unchanged"]


def entries(daemon: Weft) -> dict[str, str]:
    return {e["mac"]: e.get("port") or e.get("vtep") for e in daemon.ctl("fdb", "list")}


def test_entries_lead_where_the_last_line_says(three: tuple[site.Site, Weft, list[Wire]]) -> None:
    host, daemon, wires = three
    folder = host.lab.path("fdb")
    folder.mkdir()
    assert_reaches(wires, MACS[0], 1, "pb", "pc")
    assert counts(apply(daemon, folder, f"add web {MACS[0]} port pb\n")) == (1, 0, 0, 0)
    assert_reaches(wires, MACS[0], 2, "pb")
    assert counts(apply(daemon, folder, f"add web {MACS[0]} port pc\nadd web {MACS[1]} vtep far\n")) == (1, 1, 0, 0)
    assert_reaches(wires, MACS[0], 3, "pc")
    assert_reaches(wires, MACS[1], 4)
    assert counts(apply(daemon, folder, f"del web {MACS[0]}\ndel web {MACS[1]}\ndel web {MACS[2]}\n")) == (0, 0, 2, 1)
    assert_reaches(wires, MACS[0], 5, "pb", "pc")
    assert entries(daemon) == {}


def test_entries_follow_a_port_that_is_made_anew(three: tuple[site.Site, Weft, list[Wire]]) -> None:
    """Another device, so another port under the same name: the API's entries and the file's lead to it."""
    host, daemon, wires = three
    config = host.copy_config()
    config["fdb"].append({"bd": "web", "mac": MACS[1], "port": "pb"})
    daemon.reload(config)
    daemon.ctl("fdb", "add", MACS[0], "--bd", "web", "--port", "pb")
    config["port"][1]["device"] = weft.pcap(9, "pb")
    report = daemon.reload(config)
    assert report["changed"] == ["port pb"], report
    site.wait_port(daemon, "pb")
    assert_reaches(wires, MACS[0], 1, "pb")
    assert_reaches(wires, MACS[1], 2, "pb")
    # And back, when the change as a whole fails.
    bad = {**config, "port": [dict(port) for port in config["port"]]}
    bad["port"][1]["device"] = weft.pcap(10, "pb")
    bad["port"][2]["device"] = "net_pcap11,rx_iface_in=none,tx_iface=none"
    with pytest.raises(Refused, match="port pc:"):
        daemon.reload(bad)
    for name in ("pb", "pc"):
        site.wait_port(daemon, name)
    assert_reaches(wires, MACS[0], 3, "pb")
    assert_reaches(wires, MACS[1], 4, "pb")
    assert entries(daemon) == {MACS[0]: "pb", MACS[1]: "pb"}


def test_what_entries_need_stays(three: tuple[site.Site, Weft, list[Wire]]) -> None:
    """Neither a reload nor the API takes away what an entry leads to, unless the entry goes with it."""
    host, daemon, _ = three
    folder = host.lab.path("fdb")
    folder.mkdir()
    config = host.copy_config()
    config["fdb"].append({"bd": "web", "mac": MACS[4], "vtep": "far"})
    daemon.reload(config)
    daemon.ctl("bd", "add", "db", "--vni", "200", "--vtep", "far")
    daemon.ctl("port", "add", "p", "--bd", "db", "--vhost-user", host.lab.path("p.sock"))
    text = "".join(f"add db {mac} {target}\n" for mac, target in zip(MACS, ["port p", "port p", "vtep far"], strict=False))
    apply(daemon, folder, text + f"add web {MACS[0]} port pb\n")
    before = daemon.ctl("fdb", "list")
    without_b = host.copy_config()
    del without_b["port"][1]
    moved_b = host.copy_config()
    moved_b["bd"].append({"name": "other"})
    moved_b["port"][1]["bd"] = "other"
    taken = host.copy_config()
    taken["fdb"].append({"bd": "web", "mac": MACS[0], "port": "pb"})
    for new, said in ((without_b, 'there is no port "pb"'), (moved_b, 'port "pb" is in bd "other"'), (taken, "over the API")):
        with pytest.raises(Refused, match=said):
            daemon.reload(new)
    for words, said in ((["bd", "del", "db"], "is still used by port p, fdb"), (["bd", "set", "db", "--no-vteps"], "does not take part")):
        with pytest.raises(Refused, match=said):
            daemon.ctl(*words)
    with pytest.raises(Refused, match="belongs to the configuration file"):
        apply(daemon, folder, f"add web {MACS[4]} port pb\n")
    assert daemon.ctl("fdb", "list") == before
    assert {b["name"]: b["fdb_entries"] for b in daemon.ctl("bd", "list")} == {"web": 2, "db": 3}
    daemon.ctl("port", "del", "p")
    assert [(e["bd"], e["mac"]) for e in daemon.ctl("fdb", "list") if e["owner"] == "api"] == [("web", MACS[0]), ("db", MACS[2])]
    assert daemon.reload(host.config)["removed"] == [f"fdb web/{MACS[4]}"]


def test_many_entries_come_in_batches_and_go(three: tuple[site.Site, Weft, list[Wire]]) -> None:
    host, daemon, wires = three
    folder = host.lab.path("fdb")
    folder.mkdir()
    macs = [f"02:01:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}" for n in range(50_000)]
    done = apply(daemon, folder, "".join(f"add web {mac} port pc\n" for mac in macs))
    assert counts(done) == (50_000, 0, 0, 0) and done["batches"] == 13
    assert daemon.ctl("status")["fdb_entries"] == 50_000
    assert_reaches(wires, macs[49_999], 1, "pc")
    # The last batch has a line that is refused; those before it stay.
    text = "".join(f"add web {mac} port pb\n" for mac in macs[:200]) + f"add web {macs[300]} port nobody\n"
    with pytest.raises(Refused, match=r"changes:201: .*nobody.*\n.*\n.*replaced 200"):
        apply(daemon, folder, text, "--batch", "100")
    assert_reaches(wires, macs[199], 2, "pb")
    assert_reaches(wires, macs[300], 3, "pc")
    done = apply(daemon, folder, "".join(f"del web {mac}\n" for mac in macs))
    assert counts(done) == (0, 0, 50_000, 0) and daemon.stats()["fdb"]["shrunk"] > 0


def test_a_program_drives_it_line_by_line(three: tuple[site.Site, Weft, list[Wire]]) -> None:
    """Each line is in force when it is acknowledged; the end of the input ends it."""
    _, daemon, wires = three
    argv = [str(weft.weftctl()), "--socket", str(daemon.socket), "fdb", "apply", "-", "--ack"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as ctl:
        assert ctl.stdin and ctl.stdout
        for line in range(1, 7):
            port = ("pb", "pc")[line % 2]
            ctl.stdin.write(f"add web {MACS[0]} port {port}\n")
            assert ctl.stdout.readline() == f"{line}\n"
            assert_reaches(wires, MACS[0], line, port)
        ctl.stdin.close()
        assert ctl.stdout.read().startswith("added 1, replaced 5, removed 0, unchanged 0 in")
    assert ctl.returncode == 0
