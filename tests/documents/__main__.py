"""Writes the tables of docs/app-developers.md anew: `python -m tests.documents`."""

import logging

import structlog

from tests.documents.tables import PAGE, filled

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
