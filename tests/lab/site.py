"""Hosts that run weftd, with their tenants: the worlds that system tests are set in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import weft
from .netns import Netns, Wire, veth
from .proc import Lab, wait_for
from .weft import Table, Weft

UNDERLAY_MTU = 1600


class Site:
    """One host: a namespace whose device `up0` is weftd's uplink with the VTEP address 192.168.50.`number`."""

    def __init__(self, lab: Lab, number: int, **uplink: Any) -> None:
        self.lab = lab
        self.number = number
        self.ns = Netns(lab, f"host{number}")
        self.address = f"192.168.50.{number}"
        self.mac = f"02:aa:00:00:00:{number:02x}"
        self.config: dict[str, Any] = {
            "uplink": [weft.uplink("up0", f"{self.address}/24", **uplink)], "vtep": [], "bd": [], "port": [], "fdb": [],
        }
        self._devices = 0

    def underlay(self, peer: Netns, device: str = "up0", *, peer_mac: str = "") -> None:
        """Joins our uplink to a device of another namespace."""
        veth(self.ns, "up0", peer, device, mtu=UNDERLAY_MTU, a_mac=self.mac, b_mac=peer_mac)

    def vtep(self, name: str, address: str, encap: str, **more: Any) -> None:
        self.config["vtep"].append({"name": name, "address": address, "encap": encap, **more})

    def bd(self, name: str, vni: int | None, vteps: list[str] | None = None, **more: Any) -> None:
        entry: Table = {"name": name, **({"vni": vni} if vni is not None else {}), "vteps": vteps or [], **more}
        self.config["bd"].append(entry)

    def fdb(self, bd: str, mac: str, **target: str) -> None:
        self.config["fdb"].append({"bd": bd, "mac": mac, **target})

    def kernel_port(self, name: str, bd: str, *, mac: str = "", mtu: int = 1500,
                    driver: Callable[[int, str], str] = weft.af_packet) -> Netns:
        """A tenant that is a kernel's network stack: namespace with `eth0`, attached by AF_PACKET."""
        tenant = Netns(self.lab, f"{name}-{self.number}")
        veth(self.ns, name, tenant, "eth0", mtu=mtu, b_mac=mac)
        self._devices += 1
        self.config["port"].append(weft.ethdev_port(name, bd, driver(self._devices, name), mtu=mtu))
        return tenant

    def tenant(self, name: str, bd: str, cidr: str, mac: str, **more: Any) -> Netns:
        """A kernel tenant with an address."""
        ns = self.kernel_port(name, bd, mac=mac, **more)
        ns.address("eth0", cidr)
        return ns

    def raw_port(self, name: str, bd: str, *, mtu: int = 1500) -> Wire:
        """A tenant port of which the test sees and sends every byte."""
        return self.kernel_port(name, bd, mtu=mtu, driver=weft.pcap).wire("eth0")

    def vm_port(self, name: str, bd: str, *, mode: str = "server", queues: int = 1, packed: bool = False) -> Path:
        """A vhost-user port; returns the socket's path."""
        path = self.lab.path(f"{name}-{self.number}.sock")
        self.config["port"].append(weft.vhost_port(name, bd, path, mode=mode, queues=queues, packed=packed))
        return path

    def memif_port(self, name: str, bd: str) -> Path:
        """A memif port of which weftd is the server; returns the socket's path."""
        path = self.lab.path(f"{name}-{self.number}.memif")
        self._devices += 1
        device = f"net_memif{self._devices},role=server,id=0,socket={path},socket-abstract=no"
        self.config["port"].append(weft.ethdev_port(name, bd, device))
        return path

    def copy_config(self) -> dict[str, Any]:
        return copy.deepcopy(self.config)

    def start(self, **options: Any) -> Weft:
        daemon = Weft(self.lab, self.ns, self.config, name=f"weftd{self.number}", **options)
        self.mac = daemon.ctl("uplink", "list")[0]["mac"]  # not every driver takes the kernel device's
        return daemon


def wire_site(lab: Lab, number: int = 1, **uplink: Any) -> tuple[Site, Wire, str]:
    """A host whose underlay is in the test's hands, byte by byte: the site, the other end of its wire, and that end's
    MAC. The site's own MAC is known once weftd runs."""
    site = Site(lab, number, **{"device": weft.pcap(0, "up0"), **uplink})
    outside = Netns(lab, f"wire{number}")
    peer_mac = "02:aa:00:00:00:fe"
    site.underlay(outside, "eth0", peer_mac=peer_mac)
    return site, outside.wire("eth0"), peer_mac


def pair(lab: Lab, encap: str, **uplink: Any) -> tuple[Site, Site]:
    """Two hosts on one underlay, each other's VTEP under the name `peer`, with the bridge domain `web` (VNI 100)."""
    a, b = Site(lab, 1, **uplink), Site(lab, 2, **uplink)
    veth(a.ns, "up0", b.ns, "up0", mtu=UNDERLAY_MTU, a_mac=a.mac, b_mac=b.mac)
    for site, other in ((a, b), (b, a)):
        site.vtep("peer", other.address, encap)
        site.bd("web", 100, ["peer"])
    return a, b


def local_site(lab: Lab, number: int = 1) -> Site:
    """A host whose underlay leads nowhere, for tests of local ports; with the bridge domain `web`."""
    site = Site(lab, number)
    site.underlay(Netns(lab, f"nowhere{number}"), "eth0")
    site.bd("web", None)
    return site


def wait_port(daemon: Weft, name: str, timeout: float = 15) -> None:
    """Waits until a port's link is up: a guest is connected and its driver has enabled a ring."""
    def up() -> bool:
        return any(p["name"] == name and p["link_up"] for p in daemon.ctl("port", "list"))

    wait_for(up, timeout, f"port {name} is up")
