"""Reads callgrind's output, and says which stage of the packet path each instruction belongs to.

callgrind counts by address. The compiler inlines stages into one another and the standard library into all of them, so
that neither functions nor source files alone say who spends what. The debugger's information does: it has for each address
the stack of inlined calls there. The innermost frame that is a stage's decides; where there is none (a function that was not inlined,
such as a parser), the callers do.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

Function = tuple[str, str]  # object file, name
ROUND = "round"
# Functions in one stage's file that others call, too.
SHARED = r"destination"


@dataclass
class Profile:
    """Instructions by function and address, and calls: (caller, address, callee, instructions spent in it)."""

    total: int = 0
    own: dict[Function, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    calls: list[tuple[Function, int, Function, int]] = field(default_factory=list)


def read(file: Path) -> Profile:
    """Reads a file written with --dump-instr=yes --compress-strings=no --compress-pos=no."""
    profile = Profile()
    obj = name = callee_obj = callee = ""
    of_call = False
    for line in file.read_text().splitlines():
        key, equals, value = line.partition("=")
        if line.startswith("0x"):
            words = line.split()
            address, cost = int(words[0], 16), int(words[2]) if len(words) > 2 else 0
            if of_call:
                profile.calls.append(((obj, name), address, (callee_obj or obj, callee), cost))
                callee_obj, of_call = "", False
            else:
                profile.own[obj, name][address] += cost
        elif line.startswith("summary: "):
            profile.total = int(line.split()[1])
        elif equals:
            if key == "ob":
                obj = value
            elif key == "fn":
                name = value
            elif key == "cob":
                callee_obj = value
            elif key == "cfn":
                callee = value
            elif key == "calls":
                of_call = True
    counted = sum(sum(addresses.values()) for addresses in profile.own.values())
    if not profile.total or counted != profile.total:
        raise ValueError(f"{file}: {counted} instructions read, but callgrind counted {profile.total}")
    return profile


@dataclass(frozen=True)
class Frame:
    """One of the calls that were inlined at an address."""

    function: str
    file: str


def frames(binary: Path, addresses: list[int]) -> dict[int, list[Frame]]:
    """The calls inlined at each address, innermost first; the last one is the function itself."""
    done = subprocess.run(["addr2line", "-a", "-i", "-f", "-C", "-e", binary], capture_output=True, text=True, check=True,
                          input="".join(f"{a:#x}\n" for a in addresses))
    found: dict[int, list[Frame]] = {}
    lines = iter(done.stdout.splitlines())
    at: list[Frame] = []
    for line in lines:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            at = found.setdefault(int(line, 16), [])
        else:
            at.append(Frame(line, next(lines).rpartition(":")[0]))
    return found


def stage_of(stack: list[Frame]) -> str:
    """The stage that the innermost calls belong to; empty if they do not say."""
    for i, frame in enumerate(stack):
        if re.fullmatch(SHARED, frame.function.rpartition("::")[2]) or frame.file.endswith("/fdb/key.rs"):
            continue
        if found := re.search(r"dataplane/src/stage/(\w+)\.rs$", frame.file):
            return found[1]
        if re.search(r"dataplane/src/tx(/\w+)?\.rs$", frame.file):
            flushes = any("flush" in f.function and "/tx" in f.file for f in stack[i:])
            return "tx flush" if flushes else "tx staging"
        if "dataplane/tables/src/fdb/" in frame.file:
            return "lookup"
        if "dpdk-sys/shim/" in frame.file:
            return "port"
    return ""


def kind_of(stack: list[Frame]) -> str:
    """What kind of work it is, by the innermost call that is weft's."""
    vectors = False
    for frame in stack:
        vectors |= "/arrayvec-" in frame.file
        if "dpdk-sys/shim/" in frame.file:
            return "C: shim, driver, libraries"
        if re.search(r"/mbuf\.rs$", frame.file):
            return "mbuf fields"
        if "dataplane/wire/src/" in frame.file:
            return "headers"
        if "dataplane/tables/src/" in frame.file:
            return "tables"
        if frame.file.endswith("dataplane/src/counters.rs"):
            return "counters"
        if "dataplane/" in frame.file or "benches/src/" in frame.file:
            return "vectors of packets" if vectors else "the stage's own"
    return "C: shim, driver, libraries"


def place_of(stack: list[Frame]) -> str:
    """File and function of the innermost call that is weft's."""
    for frame in stack:
        if found := re.search(r"(?:dataplane|benches|dpdk-sys)/(?:[\w-]+/)*[\w.-]+$", frame.file):
            function = re.sub(r"<.*>|::\{.*", "", frame.function).rpartition("::")[2] or frame.function
            return f"{found[0].removeprefix('dataplane/').replace('src/', '')} {function}"
    return "C"


class Attribution:
    """Instructions by stage, by kind of work, and by stage and place."""

    def __init__(self, profile: Profile, binary: Path) -> None:
        self.profile, self.binary = profile, str(binary)
        ours = {a for (obj, _), addresses in profile.own.items() if obj == self.binary for a in addresses}
        ours |= {a for (obj, _), a, _, _ in profile.calls if obj == self.binary}
        self.stacks = frames(binary, sorted(ours))
        self.callers: dict[Function, list[tuple[Function, int, int]]] = defaultdict(list)
        for caller, address, callee, cost in profile.calls:
            self.callers[callee].append((caller, address, cost))
        self.known: dict[Function, dict[str, float]] = {}
        self.stages: dict[str, float] = defaultdict(float)
        self.kinds: dict[str, float] = defaultdict(float)
        self.places: dict[tuple[str, str], float] = defaultdict(float)
        for function, addresses in profile.own.items():
            for address, cost in addresses.items():
                stack = self.stacks.get(address, []) if function[0] == self.binary else []
                self.kinds[kind_of(stack)] += cost
                for stage, share in self._stages(function, stack).items():
                    self.stages[stage] += cost * share
                    self.places[stage, place_of(stack)] += cost * share

    def _stages(self, function: Function, stack: list[Frame]) -> dict[str, float]:
        stage = stage_of(stack)
        return {stage: 1.0} if stage else self._from_callers(function)

    def _from_callers(self, function: Function) -> dict[str, float]:
        """Which stages call a function, by the instructions spent in it for each."""
        if function in self.known:
            return self.known[function]
        self.known[function] = {ROUND: 1.0}  # for a recursion, which ends here
        shares: dict[str, float] = defaultdict(float)
        for caller, address, cost in self.callers[function]:
            stack = self.stacks.get(address, []) if caller[0] == self.binary else []
            for stage, share in self._stages(caller, stack).items():
                shares[stage] += share * cost
        whole = sum(shares.values())
        if whole:
            self.known[function] = {stage: n / whole for stage, n in shares.items()}
        return self.known[function]
