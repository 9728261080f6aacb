"""How a socket ends."""

import asyncio
import logging

log = logging.getLogger(__name__)

CHUNK_BYTES = 65_536


async def say_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, timeout_s: float) -> None:
    """Send a last word and wait until the client has hung up, or has had time to read it.

    A socket that is closed while bytes from the client are unread is reset, and the word is lost with it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(data)
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(CHUNK_BYTES):
                pass
    except OSError as error:  # TimeoutError is one
        log.debug("say_last reason=%r", error)


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
