"""weftd with its forwarding entries made over the API, so that the API may change them.

There are two VTEPs: the generator, and one behind it, for which the generator is the gateway. To move an address from one
to the other changes every frame for it, and the generator still receives it (and says that its outer address is wrong).
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cases import PEER_IP
from switches import Failed, Weft, program

VTEPS = ("peer", "other")
OTHER_IP = "10.0.0.2"


class Changing(Weft):
    def configuration(self) -> str:
        """The file: without entries, and with the second VTEP."""
        text = self._config().split("[[fdb]]")[0]
        text = text.replace('vteps = ["peer"]', 'vteps = ["peer", "other"]')
        text = text.replace('[[uplink]]\n', f'[[uplink]]\ngateway = "{PEER_IP}"\n')
        return text + f'[[vtep]]\nname = "other"\naddress = "{OTHER_IP}"\nencap = "{self.case.tunnel}"\n'

    def start(self) -> None:
        file = self.folder / "weft.toml"
        file.write_text(self.configuration())
        self._spawn([str(program("weftd")), "--config", str(file)])
        self._wait(lambda: self.socket("api").exists() and self._ctl("status").returncode == 0, 30)

    def ctl(self, *words: str) -> Any:
        """weftctl's answer."""
        done = self._ctl(*words)
        if done.returncode:
            raise Failed(f"weftctl {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def apply(self, file: Path) -> dict[str, Any]:
        return dict(self.ctl("fdb", "apply", str(file)))

    def stream(self, *words: str) -> subprocess.Popen[bytes]:
        """weftctl that applies what is written to it, each line by itself."""
        return subprocess.Popen([str(program("weftctl")), "--socket", str(self.socket("api")), "--json", "fdb", "apply", "-", "--batch", "1", *words],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def round_trips(self, lines: Iterable[str]) -> list[float]:
        """Seconds from the writing of each line to weftctl's word that it is in force, one after the other."""
        took = []
        with self.stream("--ack") as ctl:
            assert ctl.stdin and ctl.stdout
            for line in lines:
                begin = time.perf_counter()
                ctl.stdin.write(line.encode())
                if not ctl.stdout.readline().strip():
                    raise Failed(f"weftctl fdb apply ended with {ctl.wait(10)}")
                took.append(time.perf_counter() - begin)
            ctl.stdin.close()
            ctl.stdout.read()
        return took


def added(macs: Iterable[str], vtep: str = VTEPS[0]) -> str:
    """Lines that have these addresses lead to a VTEP."""
    return "".join(f"add bench {mac} vtep {vtep}\n" for mac in macs)


def resident(pid: int) -> float:
    """Memory of a process in MB (10^6 bytes): pages of all sizes, transparent huge ones and those of hugetlbfs included."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    names = ("Rss", "Private_Hugetlb", "Shared_Hugetlb")
    return sum(int(found[1]) for name in names if (found := re.search(rf"^{name}:\s+(\d+) kB", text, re.M))) * 1024 / 1e6
