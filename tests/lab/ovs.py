"""Open vSwitch as a peer: private ovsdb-server and ovs-vswitchd with the userspace datapath, in a namespace."""

from __future__ import annotations

from pathlib import Path

from .netns import Netns
from .proc import Lab, LabError, run, wait_for

_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class Ovs:
    """One Open vSwitch host: bridge `br-phy` owns the underlay address, `br-int` joins tenants and tunnels.

    No DPDK: veth ends are attached as AF_PACKET devices, which is enough for proof of interworking.
    """

    def __init__(self, lab: Lab, ns: Netns, *, name: str = "ovs") -> None:
        self.lab = lab
        self.ns = ns
        self.dir = lab.path(lab.unique(name))
        self.dir.mkdir()
        self._db = f"unix:{self.dir}/db.sock"
        self._ctl = self.dir / "vswitchd.ctl"
        # The programs look for their plug-ins and sockets by these, so that a system-wide instance is never met.
        self._env = {"OVS_RUNDIR": str(self.dir), "OVS_LOGDIR": str(self.dir), "OVS_DBDIR": str(self.dir)}
        run(["ovsdb-tool", "create", self.dir / "conf.db", _SCHEMA])
        ns.spawn(["ovsdb-server", self.dir / "conf.db", f"--remote=p{self._db}", f"--unixctl={self.dir}/db.ctl",
                  "--log-file=/dev/null"], name=f"{name}-ovsdb", env=self._env)
        wait_for((self.dir / "db.sock").exists, 10, "ovsdb-server listens")
        self.vsctl("--no-wait", "init")
        self.proc = ns.spawn(["ovs-vswitchd", self._db, f"--unixctl={self._ctl}", "--log-file=/dev/null"],
                             name=f"{name}-vswitchd", env=self._env)
        wait_for(self._answers, 15, "ovs-vswitchd answers")

    def _answers(self) -> bool:
        self.proc.check()
        return self._ctl.exists() and not run(["ovs-appctl", "-t", self._ctl, "version"], check=False).returncode

    def vsctl(self, *words: str) -> str:
        return run(["ovs-vsctl", "--timeout=15", f"--db={self._db}", *words], env=self._env).stdout

    def appctl(self, *words: str) -> str:
        return run(["ovs-appctl", "-t", self._ctl, *words], env=self._env).stdout

    def underlay(self, device: str, cidr: str, *, mtu: int = 1600) -> None:
        """Puts `device` (in our namespace) under the VTEP address `cidr`."""
        self.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                   "fail-mode=standalone", "other_config:hwaddr=" + self.ns.mac(device),
                   "--", "add-port", "br-phy", device, "--", "set", "interface", "br-phy", f"mtu_request={mtu}")
        self.ns.ip("address", "add", cidr, "dev", "br-phy")
        self.ns.ip("link", "set", "br-phy", "up")
        address = cidr.split("/")[0]
        wait_for(lambda: address in self.appctl("ovs/route/show"), 10, f"OVS knows its address {address}")

    def bridge(self) -> None:
        """The integration bridge: learns MACs like a plain switch."""
        self.vsctl("--may-exist", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev",
                   "fail-mode=standalone")
        self.ns.ip("link", "set", "br-int", "up")

    def port(self, device: str) -> None:
        """A tenant: the end of a veth pair in our namespace."""
        self.bridge()
        self.vsctl("add-port", "br-int", device)
        self._no_error(device)

    def tunnel(self, name: str, encap: str, remote: str, vni: int, *, port: int = 0) -> None:
        """A tunnel port of type `vxlan` or `geneve` to one peer."""
        self.bridge()
        options = [f"options:remote_ip={remote}", f"options:key={vni}"]
        options += [f"options:dst_port={port}"] if port else []
        self.vsctl("add-port", "br-int", name, "--", "set", "interface", name, f"type={encap}", *options)
        self._no_error(name)

    def _no_error(self, interface: str) -> None:
        error = self.vsctl("get", "interface", interface, "error").strip()
        if error != "[]":
            raise LabError(f"OVS cannot use {interface}: {error}")
