"""Fetches a model and its golden sound from the bridge."""

import hashlib
from pathlib import Path

import httpx2

from contract.errors import MessageError
from infra import tls
from infra.redaction import describe_request, shown_url

CONNECT_S, READ_S = 10.0, 60.0
PATH = "/api/models"


async def fetch(url: str, ticket: str, sha256: str, size: int, ca_file: Path | None) -> bytes:
    """The file with this SHA-256; raises MessageError, also if it has another length or another content."""
    if not url.startswith(("http://", "https://")):
        raise MessageError("the address of the bridge is missing: set edge.bridge_url, or rollout.bridge_url there")
    verify = tls.client_context(ca_file, who="edge") if url.startswith("https:") else False
    timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
    headers = {"authorization": f"Bearer {ticket}"} if ticket else {}
    data = bytearray()
    try:
        async with (
            httpx2.AsyncClient(trust_env=False, verify=verify, timeout=timeout, headers=headers) as client,
            client.stream("GET", f"{url.rstrip('/')}{PATH}/{sha256}") as answer,
        ):
            if answer.status_code != httpx2.codes.OK:
                raise MessageError(f"the bridge at {shown_url(url)} answered {answer.status_code} for the model")
            async for part in answer.aiter_bytes():
                data += part
                if len(data) > size:
                    raise MessageError("the bridge sent more than the model's signed length")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise MessageError(f"the bridge at {shown_url(url)} cannot be asked: {describe_request(error, url)}") from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise MessageError("what the bridge sent is not the model that was signed")
    return bytes(data)
