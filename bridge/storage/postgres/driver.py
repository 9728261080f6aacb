"""Says what to install where the driver of PostgreSQL, which is of an extra, is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import StartError


@contextmanager
def explained() -> Iterator[None]:
    """Around an import that needs the driver; raises StartError if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StartError(
            "store.url names a PostgreSQL database, whose driver is not installed: pip install 'sarvis[postgres]'"
        ) from None
