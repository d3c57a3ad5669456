#!/usr/bin/env python3
"""Writes what a measurement with Pktgen-DPDK needs: weft's configuration with its FDB, and the frames that Pktgen cannot
make itself as a pcap file. Says which commands to run on the two servers.

  prepare.py out --case encap --macs 10000 --uplink 0000:01:00.0 --port 0000:01:00.1
  prepare.py out --case decap --tunnel vxlan --size 64 ...      tunnel packets: out/frames.pcap
  prepare.py out --case encap --size imix ...                   a mix of lengths: out/frames.pcap

docs/benchmarking.md has the whole of it.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from cases import PEER_IP, PEER_MAC, SWITCH_IP, SWITCH_MAC, VNI, Case  # noqa: E402

FCS = 4
# The simple IMIX: 7 of 64, 4 of 594, 1 of 1518 bytes, FCS included. Spread out, so that no burst is of one length.
IMIX = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594]
TUNNELS = {"vxlan": (4789, bytes([8, 0, 0, 0])), "geneve": (6081, bytes([0, 0, 0x65, 0x58]))}
MAX_MACS = 1 << 22


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip_bytes(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def checksum(header: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~total & 0xffff)


def ipv4_udp(src: bytes, dst: bytes, sport: int, dport: int, payload: bytes, df: bool) -> bytes:
    """An IPv4 datagram with UDP. The UDP checksum is zero: none."""
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000 if df else 0, 64, 17, 0) + src + dst
    return head[:10] + checksum(head) + head[12:] + udp


def inner(n: int, size: int) -> bytes:
    """The frame to receiver `n`, `size` bytes long with the FCS, which is not in it. As benches/src/frames.rs has it."""
    number = struct.pack("!I", n)
    payload = b"weft".ljust(size - FCS - 14 - 28, b"\0")
    datagram = ipv4_udp(bytes([10, 0, 0, 1]), bytes([10, 128 | number[1], number[2], number[3]]), 1000, 2000, payload, False)
    return bytes([2, 0x10, 0]) + number[1:] + bytes([2, 0, 0, 0, 0, 1, 8, 0]) + datagram


def tunnelled(frame: bytes, n: int, tunnel: str) -> bytes:
    """The frame in a tunnel packet from the peer to weft."""
    port, header = TUNNELS[tunnel]
    source = 0xc000 | (n * 2654435761 & 0xffffffff) >> 18
    packet = header + struct.pack("!I", VNI << 8) + frame
    datagram = ipv4_udp(ip_bytes(PEER_IP), ip_bytes(SWITCH_IP), source, port, packet, True)
    return mac_bytes(SWITCH_MAC) + mac_bytes(PEER_MAC) + bytes([8, 0]) + datagram


def frames(macs: int, sizes: list[int], tunnel: str | None) -> Iterator[bytes]:
    """One frame at least for each receiver and each length in turn; receivers in random order, the same in every run."""
    order = list(range(macs))
    random.Random(1).shuffle(order)
    count = -(-macs // len(sizes)) * len(sizes)
    for i in range(count):
        n = order[i % macs]
        frame = inner(n, sizes[i % len(sizes)])
        yield tunnelled(frame, n, tunnel) if tunnel else frame


def write_pcap(file: Path, packets: Iterator[bytes]) -> int:
    """A pcap file of Ethernet frames; returns how many."""
    count = 0
    with file.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            out.write(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
            count += 1
    return count


def configuration(args: argparse.Namespace) -> Iterator[str]:
    """weft.toml, piece by piece: with a million addresses it has 60 MB."""
    target = {"encap": 'vtep = "peer"', "decap": 'port = "port0"', "l2": 'port = "port1"'}[args.case]
    yield f"""[dpdk]
memory_mb = {args.memory_mb}
{f"extra_args = {args.extra_args}" if args.extra_args else ""}
[daemon]
socket = "{args.socket}"
[workers]
cores = "{args.cores}"
idle = "poll"
[[uplink]]
name = "up0"
device = "{args.uplink}"
address = "{SWITCH_IP}/24"
mac = "{SWITCH_MAC}"
mtu = {args.mtu}
[[vtep]]
name = "peer"
address = "{PEER_IP}"
encap = "{args.tunnel}"
[[bd]]
name = "bench"
vni = {VNI}
vteps = ["peer"]
"""
    for number, device in enumerate(d for d in (args.port, args.second_port) if d):
        yield f'[[port]]\nname = "port{number}"\nbd = "bench"\ntype = "ethdev"\ndevice = "{device}"\n'
    for mac in Case(args.case, args.tunnel, args.macs).macs():
        yield f'[[fdb]]\nbd = "bench"\nmac = "{mac}"\n{target}\n'


def arguments() -> argparse.Namespace:
    def size(text: str) -> list[int]:
        if text == "imix":
            return IMIX
        number = int(text)
        if not 64 <= number <= 1518:
            raise argparse.ArgumentTypeError("64 to 1518, with FCS, or imix")
        return [number]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if need be")
    parser.add_argument("--case", choices=["encap", "decap", "l2"], default="encap",
                        help="encap: port0 to uplink; decap: uplink to port0; l2: port0 to port1")
    parser.add_argument("--tunnel", choices=list(TUNNELS), default="vxlan")
    parser.add_argument("--macs", type=int, default=1, help="destination MAC addresses, each with an FDB entry")
    parser.add_argument("--size", type=size, help="bytes of the inner frame with FCS, or imix: for what goes into the pcap file")
    parser.add_argument("--uplink", required=True, help="weft's device on the underlay: PCI address or vdev")
    parser.add_argument("--port", required=True, help="weft's device that stands for a VM")
    parser.add_argument("--second-port", help="another, for l2")
    parser.add_argument("--cores", default="2", help="cores of weft's workers")
    parser.add_argument("--mtu", type=int, default=1600, help="of the underlay")
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--socket", default="/run/weft/weftd.sock", help="of weftd's API")
    parser.add_argument("--extra-args", action="append", default=[], help="further EAL argument of weftd; may be given again")
    args = parser.parse_args()
    if not 1 <= args.macs <= MAX_MACS:
        parser.error(f"--macs: 1 to {MAX_MACS}")
    if args.case == "l2" and not args.second_port:
        parser.error("l2 needs --second-port")
    return args


def main() -> int:
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    with (args.folder / "weft.toml").open("w") as out:
        out.writelines(configuration(args))
    sender, receiver = {"encap": (0, 1), "decap": (1, 0), "l2": (0, 2)}[args.case]
    stream, send = "", "plain"
    if args.case == "decap" or args.size == IMIX:
        tunnel = args.tunnel if args.case == "decap" else None
        count = write_pcap(args.folder / "frames.pcap", frames(args.macs, args.size or [64], tunnel))
        stream, send = f" -s {sender}:{args.folder}/frames.pcap", "pcap"
        print(f"{args.folder}/frames.pcap: {count:,} frames, each of which takes 2.3 kB of Pktgen's hugepages\n")
    sizes = f" WEFT_SIZES={args.size[0]}" if send == "plain" and args.size else ""
    mapping = "-m \"[1:2].0\" -m \"[3:4].1\"" + (" -m \"[5:6].2\"" if args.case == "l2" else "")
    print(f"""On the server with weft:
  weftd --config {args.folder}/weft.toml

On the server with Pktgen-DPDK; port 0 is the cable to weft's port0, port 1 the one to its uplink{", port 2 the one to port1" if args.case == "l2" else ""}:
  WEFT_SEND={send} WEFT_TX={sender} WEFT_RX={receiver} WEFT_MACS={args.macs}{sizes} \\
    pktgen -l 0-{6 if args.case == "l2" else 4} -a PCI0 -a PCI1{" -a PCI2" if args.case == "l2" else ""} -- -P {mapping}{stream} -f {HERE}/throughput.lua""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
