import logging
import os
from collections.abc import Generator, Iterator

import pytest
import structlog

from contract import redaction

# A test that fails shows its own words, not thousands of lines of the ledger's log.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """A command that a test calls in this process leaves loggers behind that write to that test's standard error."""
    structlog_was = structlog.get_config()
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**structlog_was)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(autouse=True)
def _secrets_are_forgotten() -> Iterator[None]:
    """What one test calls a secret may be an ordinary word in the next one."""
    yield
    redaction.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: the programs it needs are installed there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("NO_SKIPPED_TESTS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped here: {report.longrepr}"
    return report
