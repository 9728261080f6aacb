"""The configuration of a proxy in front of several bridges, as text. No I/O."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from contract.errors import SettingsError
from infra.host_port import bracketed, host_port

Product = Literal["haproxy", "nginx"]
HEAD = "# Written by `sarvis bridge config`"


@dataclass(frozen=True, slots=True)
class Plan:
    """A proxy and its bridges.

    Attributes:
    bridges: the addresses of all, as http://HOST:PORT or https://HOST:PORT; the same scheme for all.
    listen: host and port for apps, with TLS.
    cert, key: what the proxy shows to apps.
    ca_file: the authority of the bridges' certificates; None without TLS behind the proxy.
    name: the name that each bridge's certificate has; by default the host of the first.
    """

    bridges: tuple[str, ...]
    listen: tuple[str, int]
    cert: str
    key: str
    ca_file: str | None = None
    name: str | None = None

    @property
    def tls(self) -> bool:
        """Whether the proxy reaches the bridges by TLS."""
        return urlsplit(self.bridges[0]).scheme == "https"

    @property
    def places(self) -> list[str]:
        """`host:port` of each bridge."""
        found = [urlsplit(url) for url in self.bridges]
        return [host_port(one.hostname or "", one.port or (443 if self.tls else 80)) for one in found]

    @property
    def shown_name(self) -> str:
        """The name in the bridges' certificates."""
        return self.name or urlsplit(self.bridges[0]).hostname or ""


def check(plan: Plan) -> None:
    """Raises SettingsError for what no proxy's configuration can say."""
    if len({urlsplit(url).scheme for url in plan.bridges}) > 1:
        raise SettingsError("--bridge: all addresses must begin with https://, or all with http://")
    if plan.tls and plan.ca_file is None:
        raise SettingsError("--bridge-ca is missing: the authority of the bridges' certificates, ca.crt of their kits")
    for text in (*plan.bridges, plan.cert, plan.key, plan.ca_file or "", plan.shown_name):
        if any(letter in text for letter in "\n\r\0\"'\\;{}# "):
            raise SettingsError(f"{text!r} has a character that a proxy's configuration cannot contain; choose another")


def haproxy(plan: Plan) -> str:
    """For HAProxy 2.6 and newer."""
    server = "check inter 1s fall 2 rise 2"
    if plan.tls:
        server += f" ssl verify required ca-file {plan.ca_file} verifyhost {plan.shown_name}"
    servers = [f"    server bridge-{number} {place}" for number, place in enumerate(plan.places, start=1)]
    pool = [
        "    # A bridge that leaves says so two checks before it refuses anybody. Do not add",
        "    # `on-marked-down shutdown-sessions`: it would cut every app when a check fails for two seconds.",
        "    option httpchk",
        "    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost",
        "    http-check expect status 200",
        "    option redispatch 1",
        "    retries 2",
        "    # A bridge that answers 503 has changed nothing.",
        "    retry-on conn-failure 503",
        f"    default-server {server}",
        *servers,
    ]
    host, port = plan.listen
    return _lines(
        f"{HEAD} haproxy; check it: haproxy -c -f THIS_FILE",
        "global",
        "    # The key is beside the certificate, as NAME.key.",
        "    ssl-load-extra-del-ext",
        "    ssl-default-bind-options ssl-min-ver TLSv1.2",
        "    hard-stop-after 60s",
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout http-request 10s",
        "    timeout client 75s",
        "    timeout server 75s",
        "    timeout tunnel 1h",
        "    timeout client-fin 5s",
        "frontend apps",
        f"    bind {bracketed(host)}:{port} ssl crt {plan.cert} alpn http/1.1",
        "    # The bridges believe this proxy, so what a client writes there must not come through.",
        "    http-request del-header X-Forwarded-For",
        "    http-request del-header X-Forwarded-Host",
        "    http-request del-header X-Forwarded-Port",
        "    http-request del-header Forwarded",
        "    http-request set-header X-Forwarded-Proto https",
        "    option forwardfor",
        "    use_backend sockets if { path_beg /ws/app/ }",
        "    default_backend calls",
        "backend sockets",
        "    # A user's sockets tend to one bridge, which saves messages between bridges; none depends on it.",
        "    balance uri depth 3",
        "    hash-type consistent",
        "    hash-balance-factor 150",
        *pool,
        "backend calls",
        "    balance leastconn",
        *pool,
    )


def nginx(plan: Plan) -> str:
    """For nginx 1.22 and newer, to be included in its http { }."""
    host, port = plan.listen
    scheme = "https" if plan.tls else "http"
    verified = [
        "        proxy_ssl_verify on;",
        f"        proxy_ssl_trusted_certificate {plan.ca_file};",
        f"        proxy_ssl_name {plan.shown_name};",
        "        proxy_ssl_server_name on;",
    ]
    return _lines(
        f"{HEAD} nginx; include it in http {{ }}",
        'map $http_upgrade $sarvis_upgrade { default upgrade; "" close; }',
        "upstream sarvis {",
        "    least_conn;",
        *(f"    server {place} max_fails=1 fail_timeout=5s;" for place in plan.places),
        "}",
        "server {",
        f"    listen {bracketed(host)}:{port} ssl;",
        f"    ssl_certificate {plan.cert};",
        f"    ssl_certificate_key {plan.key};",
        "    ssl_protocols TLSv1.2 TLSv1.3;",
        "    location / {",
        f"        proxy_pass {scheme}://sarvis;",
        *(verified if plan.tls else []),
        "        proxy_http_version 1.1;",
        "        proxy_connect_timeout 5s;",
        "        proxy_read_timeout 75s;",
        "        proxy_send_timeout 75s;",
        "        # nginx does not ask bridges how they are: one that leaves answers 503, and the next is asked. A POST",
        "        # is not handed on, since it may not be repeated; its caller gets the 503, with Retry-After.",
        "        proxy_next_upstream error timeout http_503;",
        f"        proxy_next_upstream_tries {len(plan.bridges)};",
        "        proxy_set_header Host $http_host;",
        "        # The bridges believe this proxy, so what a client writes into these headers must not come through.",
        "        proxy_set_header X-Forwarded-For $remote_addr;",
        "        proxy_set_header X-Forwarded-Proto https;",
        '        proxy_set_header X-Forwarded-Host "";',
        '        proxy_set_header X-Forwarded-Port "";',
        '        proxy_set_header Forwarded "";',
        "        proxy_set_header Upgrade $http_upgrade;",
        "        proxy_set_header Connection $sarvis_upgrade;",
        "    }",
        "}",
    )


def trusted(addresses: Sequence[str]) -> str:
    """The line of sarvis.toml by which a bridge believes proxies."""
    return f"trusted_proxies = {json.dumps(list(addresses))}"


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
