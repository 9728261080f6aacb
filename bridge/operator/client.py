"""Calls the running bridge over HTTP for operators' commands."""

from typing import Any

import httpx2

from contract.errors import SarvisError, StartError
from infra import tls
from infra.host_port import local_address
from infra.redaction import describe_request, shown_url
from infra.secrets import secret_of
from infra.settings.loader import Settings

ANSWER_WITHIN_S = 10.0
OK, UNAUTHORISED, FORBIDDEN, NOT_FOUND, TOO_MANY, UNAVAILABLE = 200, 401, 403, 404, 429, 503
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
        raise NoBridgeError(
            f"the bridge cannot be reached at {shown_url(url)} ({describe_request(error, url)}); start `sarvis "
            f"bridge`, or set its address: {WHERE}"
        ) from None
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


def _client(settings: Settings) -> httpx2.Client:
    operator = settings.operator
    key = secret_of(operator.api_key, operator.api_key_file, "operator.api_key_file", "key")
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    verify = tls.client_context(operator.ca_file, who="operator") if where(settings).startswith("https:") else False
    return httpx2.Client(trust_env=False, timeout=ANSWER_WITHIN_S, headers=headers, verify=verify)


def _refused(url: str, status: int, detail: str) -> SarvisError:
    if status == NOT_FOUND and detail:
        return NotFoundError(detail)
    if status in {UNAUTHORISED, FORBIDDEN}:
        return SarvisError(
            f"the bridge at {url} refused ({detail or status}); create a key with `sarvis token api NAME --role "
            f"operator` and put it into operator.api_key_file or SARVIS_OPERATOR__API_KEY"
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
