"""How an operator's command asks the running bridge."""

from typing import Any

import httpx2

from contract import tls
from contract.errors import SarvisError, StartError
from contract.redaction import describe_request, shown_url
from contract.secrets import secret_of
from contract.settings import Settings

ANSWER_WITHIN_S = 10.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
OK, UNAUTHORISED, FORBIDDEN, NOT_FOUND, TOO_MANY, UNAVAILABLE = 200, 401, 403, 404, 429, 503
WHERE = "operator.url, or bridge.host and bridge.port, or --host and --port"


class NoBridgeError(StartError):
    """No bridge is reached."""


class NotFoundError(SarvisError):
    """The bridge does not know what it was asked about."""


def where(settings: Settings) -> str:
    """The address of the bridge."""
    if settings.operator.url is not None:
        return settings.operator.url
    bridge = settings.bridge
    host = EVERYWHERE.get(bridge.host, bridge.host)
    scheme = "https" if bridge.tls_cert is not None else "http"
    return f"{scheme}://[{host}]:{bridge.port}" if ":" in host else f"{scheme}://{host}:{bridge.port}"


def ask(settings: Settings, path: str, body: dict[str, Any], *, afterwards: str) -> dict[str, Any]:
    """POST and the answer of status 200; raises NoBridgeError, NotFoundError, SarvisError, SettingsError.

    `afterwards` says which command tells whether it was done when no answer came.
    """
    url = where(settings)
    try:
        with _client(settings) as client:
            response = client.post(url + path, json=body)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, UnicodeError) as error:
        raise NoBridgeError(
            f"no bridge is reached at {shown_url(url)} ({describe_request(error, url)}); start `sarvis bridge`, or say "
            f"where it is: {WHERE}"
        ) from None
    except httpx2.HTTPError as error:
        why = describe_request(error, url)
        raise SarvisError(
            f"what listens at {shown_url(url)} gave no answer ({why}), perhaps it did it all the same; {afterwards}"
        ) from None
    answer = _json(response)
    if response.status_code == OK and answer:
        return answer
    raise _refused(shown_url(url), response.status_code, str(answer.get("detail", "")))


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
            f"the bridge at {url} refused ({detail or status}); make a key with `sarvis token api NAME --role "
            f"operator` and put it into operator.api_key_file or SARVIS_OPERATOR__API_KEY"
        )
    if status in {UNAVAILABLE, TOO_MANY} and detail:
        return SarvisError(f"the bridge at {url} refused: {detail}")
    return SarvisError(f"what listens at {url} answered {status}; is it the bridge of these settings?")


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
