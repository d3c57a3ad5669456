"""The vhost-user protocol by hand, as far as a test needs it to look at a back-end, or to be nasty to it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

GET_FEATURES = 1

# Bits of the virtio feature word (VIRTIO 1.1, sections 5.1.3 and 6).
CSUM, GUEST_CSUM = 0, 1
GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO = 7, 8, 9, 10
HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO = 11, 12, 13, 14
MRG_RXBUF, MQ, VERSION_1, RING_PACKED = 15, 22, 32, 34
OFFLOADS = (CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO, HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO)


def message(request: int, payload: bytes = b"", *, flags: int = 1, size: int | None = None) -> bytes:
    """A vhost-user message; version 1 is in the low bits of the flags."""
    return struct.pack("<III", request, flags, len(payload) if size is None else size) + payload


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect(str(path))
    return client


def offered_features(path: Path) -> int:
    """The feature word that the back-end offers to whoever connects."""
    with connect(path) as client:
        client.sendall(message(GET_FEATURES))
        answer = client.recv(64)
    request, _, size = struct.unpack("<III", answer[:12])
    assert (request, size) == (GET_FEATURES, 8), answer.hex()
    return struct.unpack("<Q", answer[12:20])[0]


def has(features: int, bit: int) -> bool:
    return bool(features >> bit & 1)
