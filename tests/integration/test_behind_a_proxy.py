"""A real nginx in front of a real bridge: with the lines of docs/operations.md, and as people often have it."""

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from bridge.auth import tokens
from tests.support.certificates import Authority
from tests.support.clock import ManualClock
from tests.support.ports import free_port
from tests.support.programs import program
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge, Json, unique

DOCUMENTED = re.search(
    r"```nginx\n(.*?)```", (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8"), re.DOTALL
)
PORT_DROPPED = """
map $http_upgrade $connection_upgrade { default upgrade; "" close; }
server { listen 443; location / {
  proxy_pass http://127.0.0.1:8000; proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
  proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme; } }
"""
"""What many a page on the web says."""

REQUIRED = {"SARVIS_AUTH__MODE": "required", "SARVIS_BRIDGE__TRUSTED_PROXIES": '["127.0.0.1"]'}


@contextmanager
def nginx(folder: Path, lines: str, bridge: Bridge, authority: Authority | None = None) -> Iterator[int]:
    """nginx with these lines, its addresses and certificate put in; its port."""
    found = program("nginx")
    port = free_port()
    lines = lines.replace("127.0.0.1:8000", f"{HOST}:{bridge.port}").replace("listen 443", f"listen {HOST}:{port}")
    if authority is None:
        lines = re.sub(r" ssl;|\s*ssl_certificate.*", lambda found: ";" if found[0] == " ssl;" else "", lines)
    else:
        pair = authority.issue("nginx", HOST)
        lines = lines.replace("/etc/ssl/hub.crt", str(pair.cert)).replace("/etc/ssl/hub.key", str(pair.key))
    kept = " ".join(
        f"{what}_temp_path {folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\n"
        f"events {{ }}\nhttp {{ access_log off; {kept}\n{lines}\n}}\n"
    )
    process = subprocess.Popen([found, "-p", folder, "-c", config, "-e", "stderr"], stderr=subprocess.PIPE)
    try:
        wait_for("nginx listens", lambda: _accepts(port) or (process.poll() is not None and process.stderr))
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        assert process.stderr is not None
        process.stderr.close()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def token(folder: Path, uid: str) -> str:
    now = ManualClock().utc_now().timestamp()
    return tokens.issue(tokens.read(folder / "keys")[0], uid, now=now, valid_s=1e10)


def app(port: int, uid: str, origin: str | None, *offered: str, tls: ssl.SSLContext | None = None) -> ClientConnection:
    """A page's socket: by the origin that a browser would send."""
    return connect(
        f"{'wss' if tls else 'ws'}://{HOST}:{port}/ws/app/{uid}/",
        origin=Origin(origin) if origin else None, subprotocols=[Subprotocol(name) for name in offered],
        ssl=tls, proxy=None, open_timeout=PATIENCE_S,
    )  # fmt: skip


def refusals(bridge: Bridge, event: str = "page_refused") -> list[Json]:
    """Those in the log, of which there is at least one."""
    return wait_for(event, lambda: [line for line in bridge.sarvis.events() if line.get("event") == event])


@pytest.mark.parametrize("way", ["fast", "plain"])
def test_behind_nginx_as_documented_the_page_comes_in_and_others_do_not(tmp_path: Path, way: str) -> None:
    assert DOCUMENTED is not None
    authority, uid = Authority(tmp_path), unique("user")
    settings = {**REQUIRED, "SARVIS_AUTH__KEY_FILE": str(tmp_path / "keys"), "SARVIS_BRIDGE__WEBSOCKET": way}
    settings["SARVIS_LEGACY__ALLOW_NETWORKS"] = '["127.0.0.0/8"]'
    tls = ssl.create_default_context(cafile=authority.ca_file)
    with Bridge(tmp_path, NO_BROKER, settings) as bridge, nginx(tmp_path, DOCUMENTED[1], bridge, authority) as port:
        ours, mine = f"https://{HOST}:{port}", token(tmp_path, uid)
        for origin in (None, ours, f"wss://{HOST}", f"wss://{HOST}:{port}"):
            with app(port, uid, origin, "sarvis.v2", mine, tls=tls) as socket_:
                assert "connection_established" in str(socket_.recv())
        for origin in (f"https://{HOST}", f"http://{HOST}:8443", "https://evil.example", "null", "wss://evil.example"):
            with pytest.raises(InvalidStatus):
                app(port, uid, origin, "sarvis.v2", mine, tls=tls)
        with httpx2.Client(verify=tls, trust_env=False, timeout=PATIENCE_S) as http:
            assert http.get(f"{ours}/app/app.js", headers={"origin": ours}).status_code == 200
            beat: Any = {"url": f"{ours}/api/app/heartbeat", "json": {"uid": uid}}
            assert http.post(**beat, headers={"origin": ours, "authorization": f"Bearer {mine}"}).status_code == 200
            # This machine needs no credential here; whoever claims to be elsewhere, or is not told plainly, does.
            assert http.post(**beat).status_code == 200
            for told in ({"x-forwarded-for": "192.0.2.7"}, {"forwarded": "for=192.0.2.7"}, {"forwarded": "proto=x"}):
                assert http.post(**beat, headers=told).status_code == 401


def test_an_nginx_that_drops_the_port_serves_the_page_and_each_refusal_says_why(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge, nginx(tmp_path, PORT_DROPPED, bridge) as port:
        ours = f"http://{HOST}:{port}"
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as http:
            # Browsers name an origin for scripts of a page, too.
            assert http.get(f"{ours}/app/app.js", headers={"origin": ours}).status_code == 200
            for _ in range(3):
                with pytest.raises(InvalidStatus):
                    app(port, "alice", ours, "sarvis.v2")
            told = http.post(f"{ours}/app/", headers={"origin": ours})
            assert told.status_code == 403
            assert "proxy_set_header Host $http_host" in told.json()["detail"]
            assert http.post(f"{ours}/app/").status_code == 405
        (line,) = refusals(bridge)
        assert (line["origin"], line["host"], line["path"]) == (ours, HOST, "/ws/app/alice/")
        assert "auth.origins" in line["advice"]


def test_an_open_bridge_behind_nginx_serves_only_its_own_machine(tmp_path: Path) -> None:
    assert DOCUMENTED is not None
    with Bridge(tmp_path, NO_BROKER) as bridge, nginx(tmp_path, DOCUMENTED[1], bridge) as port:
        ours = f"http://{HOST}:{port}"
        with app(port, "alice", ours, "sarvis.v2") as socket_:
            assert "connection_established" in str(socket_.recv())
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as http:
            assert http.get(f"{ours}/metrics").status_code == 200
            for elsewhere in ({"x-forwarded-for": "203.0.113.9"}, {"forwarded": "for=203.0.113.9"}):
                assert http.get(f"{ours}/metrics", headers=elsewhere).status_code == 403
            assert http.get(f"{ours}/metrics", headers={"x-forwarded-host": "evil.example"}).status_code == 403
            assert http.get(f"{ours}/metrics", headers={"host": "evil.example"}).status_code == 403
        assert [line["host"] for line in refusals(bridge, "proxied_request_refused")] == [f"{HOST}:{port}"]
        with pytest.raises(InvalidStatus):
            app(port, "alice", f"http://{HOST}:1", "sarvis.v2")
