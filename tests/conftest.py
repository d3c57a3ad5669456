"""Set-up shared by all tests: who may run them, hugepages, and one laboratory per test."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

import pytest

from lab import hugepages, weft
from lab.proc import Lab, LabError, close_all, handle_signals

# 2 MB pages: two weftd with 256 MB each, testpmd or the generator, and room for a second of those.
HUGEPAGES = int(os.environ.get("WEFT_TEST_HUGEPAGES", "800"))
# No single test may take longer; the slow ones boot guests under emulation.
TEST_TIMEOUT = int(os.environ.get("WEFT_TEST_TIMEOUT", "240"))


def cannot_run(reason: str) -> None:
    """A skip that nobody can overlook; in CI a failure, because there a skipped test proves nothing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to run this: {reason}")
    warnings.warn(f"TEST NOT RUN: {reason}", stacklevel=2)
    sys.__stderr__.write(f"\n*** TEST NOT RUN: {reason}\n")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _host() -> Iterator[None]:
    if os.geteuid() != 0:
        cannot_run("system tests need root: namespaces, raw sockets, hugepages")
    handle_signals()
    host = Lab("session")
    try:
        try:
            hugepages.ensure(host, HUGEPAGES)
        except LabError as error:
            cannot_run(str(error))
        yield
    finally:
        close_all()


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Where the test makes its world; gone when the test ends. Ends of the logs are shown if it failed."""
    if "system" in request.path.parts and (missing := weft.missing()):
        cannot_run(missing)

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise LabError(f"the test takes longer than {TEST_TIMEOUT} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TEST_TIMEOUT)
    lab = Lab(request.node.name)
    try:
        yield lab
        if not getattr(request.node, "failed", False):
            lab.run_checks()
        signal.alarm(0)
        if getattr(request.node, "failed", False):
            for log in lab.logs():
                text = log.read_text(errors="replace").splitlines()
                request.node.add_report_section("teardown", log.name, "\n".join(text[-40:]))
                sys.stderr.write(f"\n--- {log.name} ---\n" + "\n".join(text[-40:]) + "\n")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        lab.close()


@pytest.fixture
def own_core() -> Iterator[int]:
    """Keeps everything of a test but the packet generator on core 0; yields the core that is the generator's alone.

    Where weftd is short of processor time the generator only feels back-pressure; where the generator is, its ring
    overflows, and that would look like a loss of weftd's.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        cannot_run("this test needs two cores")
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield cores[1]
    finally:
        os.sched_setaffinity(0, set(cores))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
