"""Calls the running bridge over HTTP for operators' commands."""

from types import TracebackType
from typing import Any, Self

import httpx2

from contract.errors import SarvisError, StartError
from infra import tls
from infra.host_port import local_address
from infra.redaction import describe_request, shown_url
from infra.secrets import secret_of
from infra.settings.loader import Settings

ANSWER_WITHIN_S = 10.0
OK, UNAUTHORISED, FORBIDDEN, NOT_FOUND, TOO_MANY, UNAVAILABLE = 200, 401, 403, 404, 429, 503
OPERATOR, VIEWER = "operator", "viewer"
WHERE = "operator.url, or bridge.host and bridge.port, or --host and --port"


class NoBridgeError(StartError):
    """The bridge cannot be reached."""


class NotFoundError(SarvisError):
    """The bridge does not have the named object."""


def where(settings: Settings) -> str:
    """The address of the bridge."""
    if settings.operator.url is not None:
        return settings.operator.url
    bridge = settings.bridge
    scheme = "https" if bridge.tls_cert is not None else "http"
    return f"{scheme}://{local_address(bridge.host, bridge.port)}"


def ask(settings: Settings, path: str, body: dict[str, Any], *, afterwards: str) -> dict[str, Any]:
    """POST, and the answer if its status is 200; raises NoBridgeError, NotFoundError, SarvisError, SettingsError.

    `afterwards` names the command that shows whether the request was carried out, if no answer comes.
    """
    url = where(settings)
    try:
        with _client(settings) as client:
            response = client.post(url + path, json=body)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, UnicodeError) as error:
        raise _not_reached(url, error) from None
    except httpx2.HTTPError as error:
        why = describe_request(error, url)
        raise SarvisError(
            f"the server at {shown_url(url)} gave no answer ({why}) and may have carried out the request; {afterwards}"
        ) from None
    answer = _json(response)
    if response.status_code == OK and answer:
        return answer
    raise _refused(shown_url(url), response.status_code, str(answer.get("detail", "")))


def readiness(settings: Settings) -> str | None:
    """What the running bridge says of itself: "" if it is ready, else why not; None if it gives no answer."""
    try:
        with _client(settings) as client:
            response = client.get(where(settings) + "/readyz")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError):
        return None
    if response.status_code not in {OK, UNAVAILABLE}:
        return ""  # it is there, and does not tell this caller
    return "" if response.status_code == OK else str(_json(response).get("reason", "not ready"))


class Watcher:
    """Asks the running bridge again and again; `async with`, because its connections stay open in between."""

    def __init__(self, settings: Settings) -> None:
        self._url = where(settings)
        self._client = httpx2.AsyncClient(**_options(settings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def text(self, path: str) -> str:
        """What it answers; raises NoBridgeError, also if it gives no answer, NotFoundError and SarvisError."""
        return (await self._get(path)).text

    async def json(self, path: str) -> dict[str, Any]:
        """The same, of an endpoint that answers with a JSON object."""
        return _json(await self._get(path))

    async def problem(self) -> str | None:
        """Why it is not ready; None if it is. Raises NoBridgeError."""
        response = await self._answer("/readyz")
        return None if response.status_code == OK else str(_json(response).get("reason", "not ready"))

    async def _get(self, path: str) -> httpx2.Response:
        response = await self._answer(path)
        if response.status_code != OK:
            raise _refused(shown_url(self._url), response.status_code, str(_json(response).get("detail", "")), VIEWER)
        return response

    async def _answer(self, path: str) -> httpx2.Response:
        try:
            return await self._client.get(self._url + path)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise _not_reached(self._url, error) from None


def _client(settings: Settings) -> httpx2.Client:
    return httpx2.Client(**_options(settings))


def _options(settings: Settings) -> dict[str, Any]:
    operator = settings.operator
    key = secret_of(operator.api_key, operator.api_key_file, "operator.api_key_file", "key")
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    verify = tls.client_context(operator.ca_file, who="operator") if where(settings).startswith("https:") else False
    return {"trust_env": False, "timeout": ANSWER_WITHIN_S, "headers": headers, "verify": verify}


def _not_reached(url: str, error: Exception) -> NoBridgeError:
    return NoBridgeError(
        f"the bridge cannot be reached at {shown_url(url)} ({describe_request(error, url)}); start `sarvis "
        f"bridge`, or set its address: {WHERE}"
    )


def _refused(url: str, status: int, detail: str, role: str = OPERATOR) -> SarvisError:
    if status == NOT_FOUND and detail:
        return NotFoundError(detail)
    if status in {UNAUTHORISED, FORBIDDEN}:
        return SarvisError(
            f"the bridge at {url} refused ({detail or status}); create a key with `sarvis token api NAME --role "
            f"{role}` and put it into operator.api_key_file or SARVIS_OPERATOR__API_KEY"
        )
    if status in {UNAVAILABLE, TOO_MANY} and detail:
        return SarvisError(f"the bridge at {url} refused: {detail}")
    return SarvisError(f"the server at {url} answered {status}; check that it is the bridge of these settings")


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
