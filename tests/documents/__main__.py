"""Writes what documents and the page say of the code anew: `python -m tests.documents`."""

import logging

import structlog

from tests.documents.tables import PAGE, filled
from tests.documents.written import WRITTEN

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for path, make in WRITTEN.items():
        path.write_text(make(), encoding="utf-8")
