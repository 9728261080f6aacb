"""Recognises variables that an orchestrator adds for a service named sarvis, which are not settings.

Kubernetes sets them for each service of the namespace, Docker for each link: a service `sarvis-bridge` adds
SARVIS_BRIDGE_SERVICE_HOST=10.0.0.7 and SARVIS_BRIDGE_PORT=tcp://10.0.0.7:8000. They are neither settings nor misspelt
ones. Their values also distinguish them: SARVIS_BRIDGE_PORT=8000 is a misspelt setting.
"""

import re
from collections.abc import Mapping

_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,5}")
_PROTOCOL = re.compile(r"tcp|udp|sctp", re.IGNORECASE)
_HOST = re.compile(r"[0-9A-Za-z.:_-]+")
_LINK = re.compile(r"/\S+")

_FORMS = (
    (re.compile(r"\w+_SERVICE_HOST"), _HOST),
    (re.compile(r"\w+_SERVICE_PORT(_\w+)?"), _NUMBER),
    (re.compile(r"\w+_PORT(_\d+_(TCP|UDP|SCTP))?"), _ADDRESS),
    (re.compile(r"\w+_PORT(_\d+_(TCP|UDP|SCTP))?_(START|END)"), _ADDRESS),  # Docker, for a range of ports
    (re.compile(r"\w+_PORT_\d+_(TCP|UDP|SCTP)_PROTO"), _PROTOCOL),
    (re.compile(r"\w+_PORT_\d+_(TCP|UDP|SCTP)_PORT(_START|_END)?"), _NUMBER),
    (re.compile(r"\w+_PORT_\d+_(TCP|UDP|SCTP)_ADDR"), _HOST),
    (re.compile(r"\w+_NAME"), _LINK),  # Docker: /web/sarvis
)
_OF_DOCKER = re.compile(r"(?P<service>\w+?)_ENV_\w+")


def service_links(given: Mapping[str, str]) -> set[str]:
    """Which of these variables, in upper case, give the address of a service."""
    found = {name for name, value in given.items() if any(_fits(name, value, *form) for form in _FORMS)}
    for name in given:
        # The linked container's own variables: any name and any value, beside those that give its address.
        of_docker = _OF_DOCKER.fullmatch(name)
        if of_docker and found & {f"{of_docker['service']}_NAME", f"{of_docker['service']}_PORT"}:
            found.add(name)
    return found


def _fits(name: str, value: str, name_form: re.Pattern[str], value_form: re.Pattern[str]) -> bool:
    # A setting has two underscores; so does a misspelt one.
    return "__" not in name and bool(name_form.fullmatch(name)) and bool(value_form.fullmatch(value.strip()))
