"""Stops one thread of a process, which no signal can do: signals stop the whole process."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from .proc import LabError

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long
_DETACH = 17
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_WALL = 0x40000000


def _ptrace(request: int, thread: int) -> None:
    if _LIBC.ptrace(request, thread, None, None) < 0:
        raise LabError(f"ptrace({request:#x}) of thread {thread}: {os.strerror(ctypes.get_errno())}")


def thread_named(pid: int, name: str) -> int:
    """The id of a process's thread."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise LabError(f"process {pid} has no thread {name}")


@contextlib.contextmanager
def stopped(pid: int, name: str) -> Iterator[None]:
    """While this lasts, the thread of that name does not run; the others do. It goes on also if we die meanwhile."""
    thread = thread_named(pid, name)
    _ptrace(_SEIZE, thread)
    _ptrace(_INTERRUPT, thread)
    os.waitpid(thread, _WALL)
    try:
        yield
    finally:
        _ptrace(_DETACH, thread)
