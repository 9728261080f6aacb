"""What callers and health checkers that nobody of us wrote do with a real bridge and a real node."""

import csv
import http.client
import io
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import httpx2
import pytest

from tests.support.processes import run_sarvis
from tests.support.programs import program
from tests.support.services import Household
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge, Edge, pause

NAMED = "kitchen.home"
BODIES: dict[str, dict[str, object]] = {
    "/api/voice-command/trigger": {"uid": "bob", "command": "c", "timestamp": "t"},
    "/api/auth/logout": {"uid": "bob"},
    "/api/auth/login": {"uid": "bob", "device_id": "jetson-9"},
    "/api/app/heartbeat": {"uid": "bob"},
    "/api/sessions/logout": {"uid": "nobody"},
    "/api/devices/remove": {"device_id": "none-9"},
    "/api/users/forget": {"uid": "a/b"},
    "/api/push/subscribe": {"uid": "bob", "subscription": {"endpoint": "e", "keys": {"p256dh": "p", "auth": "a"}}},
    "/api/push/unsubscribe": {"uid": "bob", "endpoint": "e"},
}
NODES: dict[str, dict[str, object]] = {
    "/api/auth/login": {"uid": "bob"},
    "/api/auth/logout": {"uid": "bob"},
    "/api/mute": {"muted": False},
}
READ = ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/asyncapi.json", "/api/push/key"]
NODES_READ = ["/livez", "/metrics", "/openapi.json"]
TYPES = [
    None, "", "application/json; charset=euc-kr", "text/plain", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "junk",
]  # fmt: skip


class House(Household):
    """A bridge that is open, and a node on HTTP that has a name; neither has a broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bridge = Bridge(folder, NO_BROKER, {"SARVIS_BRIDGE__HOSTS": '["hub.home"]'})

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.bridge)
        settings = {
            "SARVIS_EDGE__UPLINK": "http",
            "SARVIS_EDGE__BRIDGE_URL": self.bridge.url,
            "SARVIS_EDGE__HTTP_HOSTS": f'["{NAMED}"]',
        }
        self.edge = running.enter_context(Edge(self.folder, None, settings=settings))
        self.servers = [(self.bridge.url, BODIES, READ), (self.edge.url, NODES, NODES_READ)]

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> httpx2.Response:
        content = None if body is None else json.dumps(body).encode()
        return self.bridge.http.request(method, url, content=content, headers=headers, follow_redirects=False)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as it:
        yield it


def ask_again(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def curl(*arguments: str) -> str:
    line = [program("curl"), "-sS", "--noproxy", "*", "--max-time", str(PATIENCE_S), *arguments]
    return subprocess.run(line, check=True, timeout=2 * PATIENCE_S, capture_output=True, text=True).stdout


def test_all_endpoints_judge_the_same_json_alike_whatever_its_content_type(house: House) -> None:
    for url, bodies, _ in house.servers:
        for path, body in bodies.items():
            house.ask("POST", url + path, body)  # what it changes is changed
            said = [{} if kind is None else {"content-type": kind} for kind in TYPES]
            answers = [house.ask("POST", url + path + end, body, **one) for one, end in product(said, ("", "/"))]
            told = {(answer.status_code, answer.text) for answer in answers}
            assert len(told) == 1, (path, told)
            assert answers[0].status_code in ({404} if path == "/api/devices/remove" else {200, 422})


def test_a_form_is_refused_by_all_endpoints_and_told_what_is_wanted(house: House) -> None:
    for url, bodies, _ in house.servers:
        for path in bodies:
            answer = json.loads(curl("-d", "uid=bob&command=c&timestamp=t", url + path))
            assert answer["detail"][0]["type"] == "json_invalid"
            assert answer["example"].keys() >= {key for key in bodies[path] if key != "give_up"}


def test_a_page_of_another_origin_gains_nothing_by_a_type_that_needs_no_leave(house: House) -> None:
    for url, bodies, _ in house.servers:
        for path, body in bodies.items():
            told = {"content-type": "text/plain", "origin": "https://evil.example"}
            assert house.ask("POST", url + path, body, **told).status_code == 403


def test_a_slash_at_the_end_head_and_options_are_answered_in_place(house: House) -> None:
    for url, _, paths in house.servers:
        for path in paths:
            plain, slash = house.ask("GET", url + path), house.ask("GET", f"{url}{path}/")
            assert plain.status_code == slash.status_code
            assert plain.status_code in {200, 404, 503}, path
            for end in ("", "/"):
                head = house.ask("HEAD", url + path + end)
                assert (head.status_code, head.text) == (plain.status_code, "")
                options = house.ask("OPTIONS", url + path + end)
                assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
            refused = house.ask("DELETE", url + path)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
            assert refused.json()["detail"]
    assert house.ask("GET", f"{house.bridge.url}/app?x=1").headers["location"] == "app/?x=1"
    assert house.ask("HEAD", f"{house.bridge.url}/app/").status_code == 200


def test_what_asks_whether_the_server_is_there_at_all_is_answered(house: House) -> None:
    for url, *_ in house.servers:
        for target in ("/", "*"):
            told = curl("-i", "-X", "OPTIONS", "--request-target", target, url)
            assert told.startswith("HTTP/1.1 204 ")
        assert curl("--request-target", f"{url}/livez", url) == '{"status":"alive"}'
        assert json.loads(curl("--request-target", url, url)) == {"detail": "Not Found"}


def test_a_client_that_offers_http_2_is_served_request_after_request(house: House) -> None:
    for url, bodies, _ in house.servers:
        for path in ("/api/auth/logout", *(bodies.keys() & {"/api/voice-command/trigger"})):
            once = ["--http2", "--data-binary", json.dumps(bodies[path]), url + path]
            chunked = ["-H", "Transfer-Encoding: chunked", *once]
            assert curl(*once, "--next", *chunked, "--next", *once).count('"success"') == 3


def test_a_node_is_called_by_the_name_it_was_given_and_by_no_other(house: House) -> None:
    port = str(house.edge.http_port)
    path = f":{port}/api/auth/logout"
    for name, answer in ((NAMED, "success"), (f"{NAMED}.", "success"), ("evil.home", "detail")):
        told = curl("--resolve", f"{name}:{port}:{HOST}", "-d", '{"uid":"bob"}', f"http://{name}{path}")
        assert answer in json.loads(told)
    page = house.ask("POST", house.edge.url + "/api/auth/logout", {"uid": "bob"}, host=NAMED, origin="http://evil.home")
    assert page.status_code == 403


def test_an_open_bridge_is_called_by_the_name_it_was_given_and_by_no_other(house: House) -> None:
    for host, status in (("hub.home:8000", 200), ("HUB.home.", 200), ("evil.home", 403)):
        assert house.ask("GET", f"{house.bridge.url}/livez", host=host).status_code == status


def test_adding_a_device_with_a_name_prints_what_to_set_on_it(house: House) -> None:
    for host, named in ((NAMED, f'edge.http_hosts = ["{NAMED}"]'), ("192.168.0.9", None)):
        done = run_sarvis("device", "add", "old-9", "--logout-url", f"http://{host}:5000/x", cwd=house.folder)
        assert done.returncode == 0, done.stderr
        assert "edge.http_allow" in done.stdout
        assert (named in done.stdout) if named else ("http_hosts" not in done.stdout)


def test_bridge_and_node_keep_idle_connections_for_longer_than_uvicorn_does(house: House) -> None:
    with ExitStack() as idle:
        connections = [http.client.HTTPConnection(HOST, port) for port in (house.bridge.port, house.edge.http_port)]
        for connection in connections:
            idle.callback(connection.close)
            assert ask_again(connection) == 200
        pause(6)  # uvicorn's are five
        for connection in connections:
            assert connection.sock is not None
            assert ask_again(connection) == 200


HAPROXY = """
global
    stats socket {folder}/stats mode 600
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    default-server check inter 200ms rise 1 fall 1
{backends}
"""
CHECKS = {
    "default": "option httpchk",
    "head": "option httpchk HEAD /livez",
    "slash": "option httpchk GET /livez/ HTTP/1.1\n    http-check send hdr Host localhost",
}


@contextmanager
def haproxy(house: House, folder: Path) -> Iterator[None]:
    servers = {"bridge": house.bridge.port, "edge": house.edge.http_port}
    backends = "".join(
        f"backend {name}-{who}\n    {check}\n    server it 127.0.0.1:{at}\n"
        for (name, check), (who, at) in product(CHECKS.items(), servers.items())
    )
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(folder=folder, backends=backends))
    process = subprocess.Popen([program("haproxy"), "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_haproxy_finds_bridge_and_node_well_however_it_asks(house: House, tmp_path: Path) -> None:
    with haproxy(house, tmp_path):
        wait_for("haproxy has asked", (tmp_path / "stats").exists)
        for name, who in product(CHECKS, ("bridge", "edge")):
            wait_for(f"{name} finds the {who} up", partial(is_up, tmp_path, f"{name}-{who}"))


def is_up(folder: Path, backend: str) -> bool:
    """Whether haproxy has asked this backend's server, and found it up."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.connect(str(folder / "stats"))
        stats.sendall(b"show stat\n")
        lines = list(csv.DictReader(io.TextIOWrapper(stats.makefile("rb"))))
    line = next(line for line in lines if line["# pxname"] == backend and line["svname"] == "it")
    asked = line["check_status"]
    return line["status"] == "UP" and asked not in {"", "INI"} and not asked.startswith("*")
