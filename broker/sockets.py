"""How a socket ends."""

import asyncio
import logging

log = logging.getLogger(__name__)


async def hang_up(writer: asyncio.StreamWriter, timeout_s: float) -> None:
    """Close a socket, its last bytes sent if the client takes them soon."""
    try:
        writer.close()
        async with asyncio.timeout(timeout_s):
            await writer.wait_closed()
    except OSError as error:
        log.debug("hang_up reason=%r", error)
    finally:
        abort(writer)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close a socket at once; what was not sent yet is lost."""
    writer.transport.abort()
