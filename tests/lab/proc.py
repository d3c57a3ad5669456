"""Processes and clean-up: whatever a run starts, it also ends, whichever way the run ends."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class LabError(RuntimeError):
    """Something in the laboratory (not in weft) did not work."""


class Timeout(LabError):
    """A condition did not come true in time."""


def wait_for(condition: Callable[[], T], timeout: float, what: str, step: float = 0.02) -> T:
    """Polls `condition` until it is true and returns its value; raises :class:`Timeout` naming `what`."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Timeout(f"not within {timeout:g} s: {what} (last value {value!r})")
        time.sleep(step)


def run(
    argv: Sequence[str | os.PathLike[str]], *, check: bool = True, timeout: float = 30, input: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns its output; a failure tells the command and what it said."""
    words = [os.fspath(a) for a in argv]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, errors="replace",
        **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}),
        env={**os.environ, **env} if env else None,
    )
    if check and done.returncode:
        raise LabError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done


class Proc:
    """A child process with its log file. It dies with us even if we are killed with SIGKILL."""

    def __init__(
        self, argv: Sequence[str | os.PathLike[str]], log: Path, *, name: str = "", cpus: Iterable[int] | None = None,
        pipes: bool = False, env: Mapping[str, str] | None = None, cwd: Path | None = None,
    ) -> None:
        self.argv = [os.fspath(a) for a in argv]
        self.name = name or Path(self.argv[0]).name
        self.log = log
        cpu_set = set(cpus) if cpus is not None else None

        def in_child() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpu_set:
                os.sched_setaffinity(0, cpu_set)

        self._log_file: IO[bytes] = log.open("ab")
        # A session of its own: Ctrl-C reaches only us, and we end the children in the right order.
        self.popen = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else self._log_file,
            stderr=subprocess.STDOUT if pipes else self._log_file,
            start_new_session=True, preexec_fn=in_child, cwd=cwd, env={**os.environ, **env} if env else None,
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def check(self) -> None:
        """Raises if the process has ended."""
        code = self.popen.poll()
        if code is not None:
            raise LabError(f"{self.name} ended with {code}:\n{self.tail()}")

    def send_signal(self, number: int) -> None:
        if self.running():
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, as a crash would look."""
        self.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, timeout: float = 5) -> int:
        """SIGTERM, then SIGKILL after `timeout`; returns the exit code. Does nothing if it has already ended."""
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self._log_file.close()
        return self.popen.returncode

    def tail(self, lines: int = 25) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Lab:
    """One run: a unique id, a directory for sockets and logs, and a stack of things to undo."""

    def __init__(self, name: str = "") -> None:
        self.id = secrets.token_hex(2)
        # Short on purpose: a Unix socket's path has room for 107 bytes.
        self.dir = Path(tempfile.mkdtemp(prefix=f"weft-{self.id}-", dir="/tmp"))
        self.name = name
        self._undo: list[tuple[str, Callable[[], Any]]] = []
        self._counts: dict[str, int] = {}
        self._checks: list[Callable[[], Any]] = []
        self.closed = False
        _open_labs.append(self)

    def defer(self, what: str, undo: Callable[[], Any]) -> None:
        """Registers what takes a thing down again; last in, first out."""
        self._undo.append((what, undo))

    def check_at_end(self, check: Callable[[], Any]) -> None:
        """Registers what must hold when a test's own steps have passed and everything still runs."""
        self._checks.append(check)

    def run_checks(self) -> None:
        for check in self._checks:
            check()

    def unique(self, stem: str) -> str:
        """`stem`, `stem-2`, `stem-3`...: names of files within this run."""
        count = self._counts[stem] = self._counts.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}-{count}"

    def path(self, name: str) -> Path:
        return self.dir / name

    def spawn(self, argv: Sequence[str | os.PathLike[str]], *, name: str = "", **options: Any) -> Proc:
        """Starts a process that ends with the run; see :class:`Proc` for the options."""
        words = [os.fspath(a) for a in argv]
        stem = name or Path(words[0]).name
        name = self.unique(f"{stem}.log").replace(".log", "")
        proc = Proc(words, self.dir / f"{name}.log", name=name, **options)
        self.defer(f"stop {name}", proc.stop)
        return proc

    def logs(self) -> Iterator[Path]:
        yield from sorted(self.dir.glob("*.log"))

    def close(self) -> None:
        """Takes everything down. What fails is reported at the end, after the rest has been taken down too."""
        if self.closed:
            return
        self.closed = True
        problems: list[str] = []
        with _signals_held():
            while self._undo:
                what, undo = self._undo.pop()
                try:
                    undo()
                except Exception as error:  # noqa: BLE001 - the rest has to be taken down whatever this was
                    problems.append(f"{what}: {error}")
            shutil.rmtree(self.dir, ignore_errors=True)
            _open_labs.remove(self)
        if problems:
            raise LabError("clean-up: " + "; ".join(problems))

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_open_labs: list[Lab] = []
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def close_all() -> None:
    """Closes every run that is still open, newest first."""
    for lab in reversed(list(_open_labs)):
        with contextlib.suppress(LabError):
            lab.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A second Ctrl-C must not cut the clean-up of the first one short."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    except ValueError:  # not the main thread: it gets no signals anyway
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def handle_signals() -> None:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: by unwinding, so that everything is taken down."""
    for number in _ENDING:
        signal.signal(number, _interrupt)


atexit.register(close_all)
