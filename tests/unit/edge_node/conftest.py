import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs


@pytest.fixture
def errors() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged: errors at least, and more where a command in this process has asked for it."""
    was = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with capture_logs() as logs:
        yield logs
    structlog.configure(**was)
