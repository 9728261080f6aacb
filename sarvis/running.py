"""Finds the node or bridge of these settings on this machine, and asks it whether it is connected to its broker."""

import ssl
from dataclasses import dataclass

import httpx2

from broker.access.acl import own_name, role_of
from contract.errors import SarvisError
from infra import tls
from infra.host_port import local_address
from infra.redaction import redact
from infra.settings.loader import Settings

_WITHIN_S = 3.0
_OK, _NOT_READY = 200, 503


@dataclass(frozen=True, slots=True)
class Running:
    """A running process.

    Attributes:
    who: as `the edge jetson-1`.
    connected: whether it is connected to its broker; None if it did not answer.
    problem: why not, in its own words.
    """

    who: str
    connected: bool | None
    problem: str = ""


def running_here(settings: Settings, identity: str | None) -> Running | None:
    """The process that connects as `identity`, or as these settings' device if that is None; None if none is found.

    Processes on another machine, or in a container, are not found.
    """
    if identity is not None and role_of(identity) == "bridge":
        return _bridge(settings, own_name(identity))
    device_id = settings.edge.device_id or identity
    return None if device_id is None else _edge(settings, device_id)


def _edge(settings: Settings, device_id: str) -> Running | None:
    edge = settings.edge
    who = f"the edge {device_id}"
    if edge.http_port:
        status, told = _ask(f"http://{local_address(edge.http_host, edge.http_port)}", None)
        if told.get("device_id") == device_id:
            return Running(who, status == _OK, redact(str(told.get("reason", ""))))
    return Running(who, None) if _holds_its_state(settings, device_id) else None


def _holds_its_state(settings: Settings, device_id: str) -> bool:
    try:
        from edge_node.session.state_file import in_use  # noqa: PLC0415 an edge's libraries are an extra

        return in_use(settings.edge.state_dir, device_id)
    except (ModuleNotFoundError, SarvisError):
        return False


def _bridge(settings: Settings, instance: str) -> Running | None:
    """On this machine, and not at operator.url, which may be another machine."""
    bridge = settings.bridge
    scheme = "https" if bridge.tls_cert is not None else "http"
    url = f"{scheme}://{local_address(bridge.host, bridge.port)}"
    status, told = _ask(url, _any_server() if scheme == "https" else None)
    if told.get("status") not in {"ready", "not ready"} or "device_id" in told:
        return None
    ready = status == _OK
    return Running(f"the bridge {instance}", ready, "" if ready else str(told.get("reason", "its log has the reason")))


def _any_server() -> ssl.SSLContext:
    """No secret is sent, so the certificate need not match the loopback address."""
    context = tls.client_context(None, who="bridge")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask(url: str, verify: ssl.SSLContext | None) -> tuple[int, dict[str, object]]:
    """Status and JSON of its readiness; 0 and empty if it does not answer as expected."""
    try:
        with httpx2.Client(trust_env=False, timeout=_WITHIN_S, verify=verify or False) as client:
            answer = client.get(f"{url}/readyz")
        told = answer.json() if answer.status_code in {_OK, _NOT_READY} else {}
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError):
        return 0, {}
    return answer.status_code, told if isinstance(told, dict) else {}
