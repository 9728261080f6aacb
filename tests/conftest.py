import logging

import structlog

# A test that fails shows its own words, not thousands of lines of the ledger's log.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
