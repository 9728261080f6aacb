import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from infra import redaction, signals
from tests.support import programs
from tests.support.prefork import preforked

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

LONGEST_FIRST = (
    "tests/e2e/test_wakeword_training.py",
    "tests/e2e/test_soak.py",
    "tests/e2e",
    "tests/browser",
    "tests/integration",
    "tests/fuzz",
    "tests/model",
)
"""A long file that begins last is waited for by all workers but one; the rest fills up what is left."""

# How long an example takes is the machine's matter: one that stands still for a moment makes no test fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A test that fails shows its own words, not thousands of lines of the ledger's log.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


# A shell starts what runs in the background with SIGINT ignored, nohup ignores SIGHUP, and every process of a test
# would inherit that.
for _signum, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """A command that a test calls in this process leaves loggers behind that write to that test's standard error."""
    structlog_was = structlog.get_config()
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**structlog_was)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[Postgres]":
    """One for all tests of this process that are marked with needs("postgres")."""
    from tests.support.postgres import postgres  # noqa: PLC0415  # other tests start without its driver

    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def libraries_loaded() -> Iterator[None]:
    """Commands that tests/support/processes.py starts have their libraries already."""
    with preforked():
        yield


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """A command that a test calls in this process takes over its signals."""
    told = dict(vars(signals._it))
    handlers = {signum: signal.getsignal(signum) for signum in signals.ENDING}
    yield
    vars(signals._it).clear()
    vars(signals._it).update(told)
    for signum, handler in handlers.items():
        if signal.getsignal(signum) != handler:
            signal.signal(signum, handler)


@pytest.fixture(autouse=True)
def _secrets_are_forgotten() -> Iterator[None]:
    """What one test calls a secret may be an ordinary word in the next one."""
    yield
    redaction.forget()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which workers take files (scripts/test)."""
    items.sort(key=lambda item: next((at for at, name in enumerate(LONGEST_FIRST) if item.nodeid.startswith(name)), 99))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test finds on its PATH what a bare machine has, and what it names."""
    programs.PATH.reset()
    for mark in item.iter_markers("needs"):
        programs.need(*mark.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: the programs it needs are installed there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("NO_SKIPPED_TESTS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped here: {report.longrepr}"
    if call.excinfo is not None and (hint := programs.unnamed(call.excinfo.value)):
        report.sections.append(("programs", hint))
    if report.when == "teardown":
        report.user_properties.extend(("needs", name) for name in sorted(programs.PATH.named))
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line: what was skipped, for want of what. TESTS_THAT_NEED is a file for those that named something."""
    programs.PATH.restore()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    reports = [report for found in reporter.stats.values() for report in found if isinstance(report, pytest.TestReport)]
    if needing := os.environ.get("TESTS_THAT_NEED"):
        named = {report.nodeid for report in reports if any(name == "needs" for name, _ in report.user_properties)}
        Path(needing).write_text("".join(f"{name}\n" for name in sorted(named)), encoding="utf-8")
    skipped = [str(report.longrepr[2]) for report in reports if report.skipped and isinstance(report.longrepr, tuple)]
    if skipped:
        reporter.write_line(programs.summary(skipped))
