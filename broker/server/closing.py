"""Closes sockets, gracefully or at once."""

import asyncio
import contextlib
import logging

log = logging.getLogger(__name__)

CHUNK_BYTES = 65_536


async def say_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, timeout_s: float) -> None:
    """Send a last packet and wait until the client has closed, or has had time to read it.

    A socket that is closed while bytes from the client are unread is reset, and the packet is lost with it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(data)
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(CHUNK_BYTES):
                pass
    except OSError as error:  # TimeoutError is an OSError
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
    """Close a socket at once; unsent bytes are lost."""
    abort_transport(writer.transport)


def abort_transport(transport: asyncio.WriteTransport) -> None:
    """Close a socket at once; does nothing if it is closed."""
    # Until Python 3.11.2, which Debian 12 has, a TLS transport that was closed twice is aborted with this error.
    with contextlib.suppress(AttributeError):
        transport.abort()
