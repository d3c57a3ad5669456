"""Open vSwitch with DPDK between the same ports: set up as its documentation advises for speed.

One PMD thread on the worker's core, everything else on the other; transmit at once (tx-flush-interval 0); one OpenFlow rule
per destination MAC, as weft has one FDB entry; the exact match cache off above 2,000 flows, where it only
costs. The VTEP's address is on the physical bridge in a network namespace of its own, and the peer's MAC is set,
so that nothing of the host takes part.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from cases import PEER_IP, PEER_MAC, SWITCH_IP, SWITCH_MAC, VNI
from switches import Failed, MEMORY_MB, Switch

DAEMON = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
# Where the exact match cache ends to pay (8,192 places, and every flow that misses evicts another).
EMC_FLOWS = 2000
FLOW_LIMIT = 2_000_000
# OpenFlow port numbers.
WIRE, VM0, VM1, TUNNEL = 1, 10, 11, 20


class OpenVSwitch(Switch):
    name = "ovs"
    # One for the PMD thread and one for all others.
    wire_queues = 2

    def expect(self) -> str:
        return self.case.tunnel if self.case.kind == "encap" else "plain"

    def _run(self, *argv: str, text: str | None = None, seconds: float = 60) -> str:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(argv[:6])}...: {done.stderr.strip() or done.stdout.strip()}\n{self.tail()}")
        return done.stdout

    def _vsctl(self, *words: str) -> str:
        return self._run("ovs-vsctl", f"--db=unix:{self.socket('db')}", "--timeout=30", *words)

    def _appctl(self, *words: str) -> str:
        return self._run("ovs-appctl", "-t", str(self.folder / "vswitchd.ctl"), *words)

    def _flows(self, bridge: str, rules: str) -> None:
        target = f"unix:{self.folder / bridge}.mgmt"
        self._run("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", target, "-", text=rules, seconds=300)

    def start(self) -> None:
        if not DAEMON.exists():
            raise Failed(f"{DAEMON} is not there: apt-get install openvswitch-switch-dpdk")
        self.namespace = f"weft-bench-{self.folder.name}"
        self._database()
        self._run("ip", "netns", "add", self.namespace)
        # Or the kernel would send neighbour solicitations and the like out of the bridge's port.
        for which in ("all", "default"):
            self._run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1")
        self._run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        control = ["taskset", "-c", str(self.control_core)]
        self._spawn(["ip", "netns", "exec", self.namespace, *control, "env", f"OVS_RUNDIR={self.folder}",
                     str(DAEMON), f"unix:{self.socket('db')}", f"--unixctl={self.folder / 'vswitchd.ctl'}",
                     "-vconsole:warn", "--no-chdir"])
        self._wait((self.folder / "vswitchd.ctl").exists, 30)
        self._wait(lambda: self._vsctl("get", "Open_vSwitch", ".", "dpdk_initialized").strip() == "true", 30)
        self._ports()
        self._address()
        self._rules()

    def _database(self) -> None:
        self._run("ovsdb-tool", "create", str(self.folder / "conf.db"), str(SCHEMA))
        # Stays in the foreground, so that it can be ended by its pid.
        self.database = subprocess.Popen(
            ["taskset", "-c", str(self.control_core), "ovsdb-server", str(self.folder / "conf.db"),
             f"--remote=punix:{self.socket('db')}", f"--unixctl={self.folder / 'db.ctl'}", "-vconsole:off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not self.socket("db").exists():
            if time.monotonic() > end:
                raise Failed("ovsdb-server is not ready after 10 s")
            time.sleep(0.05)
        settings = {
            "dpdk-init": "true", "dpdk-socket-mem": str(MEMORY_MB), "tx-flush-interval": "0",
            "dpdk-lcore-mask": hex(1 << self.control_core), "pmd-cpu-mask": hex(1 << self.core),
            "dpdk-extra": "--no-pci --in-memory --single-file-segments --no-telemetry",
            # More than there are rules; no flow is forgotten in the middle of a run, nor are all of them looked through,
            # which would take the generator's core away.
            "flow-limit": str(FLOW_LIMIT), "max-idle": "600000", "max-revalidator": "600000",
        }
        if self.case.flows > EMC_FLOWS:
            settings["emc-insert-inv-prob"] = "0"
        self._vsctl("--no-wait", "init")
        self._vsctl("--no-wait", "set", "Open_vSwitch", ".",
                    *(f'other_config:{key}="{value}"' for key, value in settings.items()))

    def _ports(self) -> None:
        wire = f"net_memif0,role=server,socket={self.socket('wire')},socket-abstract=no,id=0,rsize=10"
        words = ["--", "add-br", "phy", "--", "set", "bridge", "phy", "datapath_type=netdev", "fail-mode=secure",
                 f'other_config:hwaddr="{SWITCH_MAC}"',
                 "--", "add-port", "phy", "wire", "--", "set", "Interface", "wire", "type=dpdk", f"ofport_request={WIRE}",
                 f'options:dpdk-devargs="{wire}"',
                 "--", "add-br", "int", "--", "set", "bridge", "int", "datapath_type=netdev", "fail-mode=secure",
                 "--", "add-port", "int", "tunnel", "--", "set", "Interface", "tunnel", f"type={self.case.tunnel}",
                 f"ofport_request={TUNNEL}", f"options:remote_ip={PEER_IP}", f"options:key={VNI}"]
        for vm, number in (("vm0", VM0), ("vm1", VM1)):
            words += ["--", "add-port", "int", vm, "--", "set", "Interface", vm, "type=dpdkvhostuserclient",
                      f"ofport_request={number}", f"options:vhost-server-path={self.socket(vm)}"]
        self._vsctl(*words[1:])
        for port in ("wire", "tunnel", "vm0", "vm1"):
            error = self._vsctl("get", "Interface", port, "error").strip()
            if error != "[]":
                raise Failed(f"Open vSwitch, port {port}: {error}")

    def _address(self) -> None:
        self._run("ip", "-n", self.namespace, "addr", "add", f"{SWITCH_IP}/24", "dev", "phy")
        self._run("ip", "-n", self.namespace, "link", "set", "phy", "up")
        end = time.monotonic() + 10
        while SWITCH_IP.rsplit(".", 1)[0] not in self._appctl("ovs/route/show"):
            if time.monotonic() > end:
                raise Failed("Open vSwitch does not see the VTEP's route after 10 s")
            time.sleep(0.1)
        self._appctl("tnl/arp/set", "phy", PEER_IP, PEER_MAC)

    def _rules(self) -> None:
        self._flows("phy", f"in_port={WIRE},actions=LOCAL\nin_port=LOCAL,actions=output:{WIRE}\n")
        source, to = {"encap": (VM0, TUNNEL), "decap": (TUNNEL, VM0), "l2": (VM0, VM1)}[self.case.kind]
        self._flows("int", "".join(f"in_port={source},dl_dst={mac},actions=output:{to}\n" for mac in self.case.macs()))

        # It begins at 10,000 whatever the setting says, and above it every packet of a new flow takes the slow path.
        self._appctl("upcall/set-flow-limit", str(FLOW_LIMIT))

    def mark(self) -> None:
        self._appctl("dpif-netdev/pmd-stats-clear")

    def finish(self) -> dict[str, Any]:
        stats = self._appctl("dpif-netdev/pmd-stats-show").split("main thread")[0]
        cycles = re.search(r"avg processing cycles per packet: ([\d.]+)", stats)
        self.stop()
        return {"cycles_per_packet": float(cycles[1]) if cycles else None, "drops": {}}

    def stop(self) -> None:
        self._end(signal.SIGTERM)
        if hasattr(self, "database"):
            self.database.terminate()
            self.database.wait(10)
        if hasattr(self, "namespace"):
            subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True, check=False)
            del self.namespace
