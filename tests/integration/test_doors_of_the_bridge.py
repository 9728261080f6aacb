"""A real bridge with credentials required: what gets in, what does not, what changes without a restart."""

import base64
import json
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from bridge.api.app import create_app
from bridge.auth import tokens
from bridge.console import actions, pages, rollout_pages
from bridge.service import Bridge as TheBridge
from bridge.storage.memory import MemoryStore
from infra.settings.loader import load
from tests.support.processes import run_sarvis
from tests.support.services import Household
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge, unique

TRIGGER = "/api/voice-command/trigger"
BODIES = {
    TRIGGER: {"uid": "u", "command": "c", "timestamp": "t"},
    "/api/auth/logout": {"uid": "u"},
    "/api/auth/login": {"uid": "u", "device_id": "jetson"},
    "/api/app/heartbeat": {"uid": "u"},
    "/api/push/subscribe": {"uid": "u", "subscription": {"endpoint": "e", "keys": {"p256dh": "p", "auth": "a"}}},
    "/api/push/unsubscribe": {"uid": "u", "endpoint": "e"},
    "/api/sessions/logout": {"uid": "u"},
    "/api/devices/remove": {"device_id": "jetson"},
    "/api/console/link": {},
    "/api/users/forget": {"uid": "u"},
}


class House(Household):
    """A bridge without a broker, and whoever gives out credentials."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.settings = {
            "SARVIS_AUTH__MODE": "required",
            "SARVIS_AUTH__KEY_FILE": str(folder / "keys"),
            # These tests share one address. With the default, it depends on their pace which of them is told 429.
            "SARVIS_LIMITS__FAILURES": "1000000/minute",
            **settings,
        }
        self.folder = folder
        self.bridge = Bridge(folder, NO_BROKER, self.settings)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.bridge)
        self.operator, self.caller = self.sarvis("token", "api", "o", "--role", "operator"), self.key()
        self.viewer = self.sarvis("token", "api", "v", "--role", "viewer")

    def sarvis(self, *arguments: str) -> str:
        done = run_sarvis(*arguments, cwd=self.folder, settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def key(self) -> str:
        return self.sarvis("token", "api", "c")

    def token(self, uid: str, valid_s: float = 60, devices: Sequence[str] = ()) -> str:
        """As `sarvis token app` makes it."""
        newest = tokens.read(self.folder / "keys")[0]
        return tokens.issue(newest, uid, now=time.time(), valid_s=valid_s, devices=devices)

    def post(self, path: str, key: str | None, body: object = None, **headers: str) -> httpx2.Response:
        given = headers if key is None else {"authorization": f"Bearer {key}", **headers}
        return self.bridge.http.post(self.bridge.url + path, json=body or BODIES[path], headers=given)

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx2.Response:
        given = headers if key is None else {"authorization": f"Bearer {key}", **headers}
        return self.bridge.http.get(self.bridge.url + path, headers=given)

    def words(self) -> str:
        return "\n".join([*self.bridge.sarvis.out, *self.bridge.sarvis.err])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as it:
        yield it
        words = it.words()
    for secret in (it.operator, it.caller, (it.folder / "keys").read_text().split()[-1]):
        assert secret not in words, "a secret is in the log"
    assert not re.search(r"eyJ|sarvis_[0-9a-f]{12}_", words), "a credential is in the log"


def rejected_with(house: House, uid: str, token: str | None, query: str = "") -> tuple[int, str]:
    """How the bridge closed a socket: code and reason."""
    offered = [Subprotocol("sarvis.v2"), *([Subprotocol(token)] if token else [])]
    with connect(
        f"ws://{HOST}:{house.bridge.port}/ws/app/{uid}/{query}",
        subprotocols=offered,
        compression=None,
        proxy=None,
        open_timeout=PATIENCE_S,
    ) as socket_:
        with pytest.raises(Exception, match="4503"):
            socket_.recv()
        assert socket_.close_code is not None
        return socket_.close_code, socket_.close_reason or ""


# --- HTTP ---


def test_every_endpoint_but_livez_the_page_and_a_bare_readyz_wants_a_credential(house: House) -> None:
    app = create_app(TheBridge(load(), MemoryStore()))
    paths = {getattr(route, "path", "") for route in app.routes} | set(app.openapi()["paths"]) | {"/nothing-here"}
    routers = (actions.router, pages.router, rollout_pages.router)
    paths |= {getattr(route, "path", "") for router in routers for route in router.routes}
    asked = {path for path in paths if path.startswith("/") and not path.startswith("/ws/")}
    assert {
        "/metrics",
        "/docs",
        "/openapi.json",
        "/asyncapi.json",
        TRIGGER,
        "/console",
        "/console/people/log-out",
    } <= asked
    open_to_all = set()
    for path in sorted(asked):
        statuses = {house.get(path).status_code, house.bridge.http.post(house.bridge.url + path).status_code}
        if statuses != {401}:
            open_to_all.add(path)
    console = {"/console/log-in", "/console/language", "/console/static/{name}"}
    assert open_to_all == {"/livez", "/readyz", "/app", "/app/server.json", *console}
    for path in ("/app/../metrics", "/app/..%2fmetrics", "/app/%2e%2e/metrics", "/apple", "/app/none"):
        answer = house.bridge.http.build_request("GET", house.bridge.url + path)
        status = house.bridge.http.send(answer).status_code
        assert status in {401, 404}, path
    bare = house.get("/readyz")
    assert (bare.status_code, bare.json()) == (503, {"status": "not ready"})
    assert house.get("/readyz", house.operator).json()["reason"].startswith("mqtt: ")
    assert house.get("/livez").json() == {"status": "alive"}


def test_a_refusal_comes_before_the_body_is_looked_at_and_tells_how_to_come_in(house: House) -> None:
    refused = house.bridge.http.post(house.bridge.url + TRIGGER, content=b"{")
    assert refused.status_code == 401
    told = [value.partition(" ")[0] for name, value in refused.headers.multi_items() if name == "www-authenticate"]
    assert told == ["Basic", "Bearer"], "a browser asks its user only by a header of its own"
    assert "credential is needed" in refused.json()["detail"]
    assert (
        house.bridge.http.post(
            house.bridge.url + TRIGGER, content=b"{", headers={"x-api-key": house.caller}
        ).status_code
        == 422
    )


@pytest.mark.parametrize("headers", [{"sec-fetch-dest": "empty"}, {"authorization": "Bearer no.such.token"}])
def test_a_page_whose_token_is_refused_makes_no_browser_ask_its_user(house: House, headers: dict[str, str]) -> None:
    refused = house.bridge.http.post(house.bridge.url + "/api/auth/logout", json={"uid": "alice"}, headers=headers)
    assert refused.status_code == 401
    told = [value.partition(" ")[0] for name, value in refused.headers.multi_items() if name == "www-authenticate"]
    assert told == ["Bearer"], "a browser hangs on its own dialog for Basic, and the page hears nothing"


@pytest.mark.parametrize("how", ["bearer", "basic", "x-api-key", "query"])
def test_a_callers_key_is_taken_wherever_old_callers_can_put_it(house: House, how: str) -> None:
    url, headers = house.bridge.url + TRIGGER, {}
    match how:
        case "bearer":
            headers = {"authorization": f"Bearer {house.caller}"}
        case "basic":
            headers = {"authorization": "Basic " + base64.b64encode(f"anybody:{house.caller}".encode()).decode()}
        case "x-api-key":
            headers = {"x-api-key": house.caller}
        case "query":
            url += f"?key={house.caller}"
    answer = house.bridge.http.post(url, json=BODIES[TRIGGER], headers=headers)
    assert answer.json() == {"success": False, "message": "User not connected"}


def test_each_credential_opens_its_own_doors(house: House) -> None:
    uid = unique("user")
    token = house.token(uid)
    credentials = {"caller": house.caller, "operator": house.operator, "viewer": house.viewer, "app": token}
    mine = {"uid": uid, "command": "c", "timestamp": "t", "device_id": "jetson"}
    opened = {
        who: {path for path in BODIES if house.post(path, key, mine).status_code not in {401, 403}}
        for who, key in credentials.items()
    }
    pushes = {"/api/push/subscribe", "/api/push/unsubscribe"}
    users = {"/api/auth/logout", "/api/auth/login", "/api/app/heartbeat", *pushes}
    assert opened == {
        "caller": users | {TRIGGER},
        "operator": {"/api/sessions/logout", "/api/devices/remove", "/api/console/link", "/api/users/forget"},
        "viewer": set(),
        "app": users,
    }
    ops = {f"/api/ops/{what}" for what in ("devices", "users", "logouts", "wakes")}
    reading = ("/metrics", "/docs", "/openapi.json", "/asyncapi.json", "/api/push/key", *sorted(ops))
    reads = {
        who: {path for path in reading if house.get(path, key).status_code in {200, 404}}
        for who, key in credentials.items()
    }
    operators = {"/metrics", "/docs", "/openapi.json", "/asyncapi.json", *ops}
    assert reads == {
        "caller": {"/api/push/key"},
        "operator": operators,
        "viewer": operators,
        "app": {"/api/push/key"},
    }


def test_neither_a_slash_nor_another_method_opens_a_door(house: House) -> None:
    uid = unique("user")
    operators = (
        "/api/sessions/logout",
        "/api/devices/remove",
        "/api/bridge/drain",
        "/api/console/link",
        "/api/users/forget",
    )
    for path in ("/metrics", "/docs", "/openapi.json", "/asyncapi.json", *operators):
        for key, method, end in product(
            (house.caller, house.token(uid)), ("GET", "HEAD", "OPTIONS", "POST", "PUT"), ("/", "//", "%2f")
        ):
            headers = {"authorization": f"Bearer {key}"}
            answer = house.bridge.http.request(method, house.bridge.url + path + end, headers=headers)
            assert answer.status_code == 403, (method, path, end)
    assert house.post("/api/sessions/logout/", house.operator, {"uid": uid}).status_code == 200


def test_health_checkers_need_no_credential(house: House) -> None:
    for method, path, status in (
        ("HEAD", "/livez", 200), ("OPTIONS", "/livez", 204), ("GET", "/livez/", 200), ("HEAD", "/readyz/", 503),
        ("OPTIONS", "/readyz", 204), ("OPTIONS", "/", 204), ("GET", "/", 401),
    ):  # fmt: skip
        assert house.bridge.http.request(method, house.bridge.url + path).status_code == status, (method, path)


def test_an_apps_token_affects_only_its_own_users_deadline_and_sessions(house: House) -> None:
    alice, bob = unique("alice"), unique("bob")
    token = house.token(alice)
    with house.bridge.app(bob, token=house.token(bob)) as his:
        for path in ("/api/auth/logout", "/api/auth/login", "/api/app/heartbeat"):
            answer = house.post(path, token, {"uid": bob, "device_id": "jetson"})
            assert (answer.status_code, answer.json()["detail"]) == (403, "this token is not for this uid")
        his.all_before()
        assert his.code is None
        assert house.post("/api/app/heartbeat", house.token(bob), {"uid": bob}).status_code == 200


def test_a_revoked_key_is_refused_without_a_restart(house: House) -> None:
    key = house.key()
    assert house.post(TRIGGER, key).status_code == 200, "it is good as soon as it is told"
    house.sarvis("token", "revoke", key.split("_")[1])
    wait_for("the key is refused", lambda: house.post(TRIGGER, key).status_code == 401)


def test_the_documents_page_needs_nothing_from_elsewhere(house: House) -> None:
    page = house.get("/docs", house.operator)
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith(house.bridge.url)
        assert house.get(address.removeprefix(house.bridge.url), house.operator).status_code == 200


def test_the_bridge_does_not_tell_what_it_is_made_of(house: House) -> None:
    assert "server" not in house.get("/livez").headers


# --- apps ---


@pytest.mark.parametrize("legacy", [False, True])
def test_an_app_with_its_own_token_comes_in(house: House, *, legacy: bool) -> None:
    uid = unique("user")
    with house.bridge.app(uid, legacy=legacy, token=house.token(uid)) as app:
        answer = house.post(TRIGGER, house.caller, {"uid": uid, "command": "c", "timestamp": "t"})
        assert answer.json()["success"] is True
        app.message("voice_command")
        assert app.socket.subprotocol == (None if legacy else "sarvis.v2")


def test_an_app_with_no_token_another_ones_token_or_a_key_is_closed_with_4503(house: House) -> None:
    uid = unique("user")
    token = house.token(uid)
    told = {
        "none": rejected_with(house, uid, None),
        "another's": rejected_with(house, uid, house.token(unique("other"))),
        "damaged": rejected_with(house, uid, token[:-4] + "AAAA"),
        "a caller's key": rejected_with(house, uid, None, f"?key={house.caller}"),
        "an operator's key": rejected_with(house, uid, None, f"?key={house.operator}"),
    }
    assert {code for code, _ in told.values()} == {4503}
    assert json.loads(told["another's"][1])["message"] == "this token is not for this uid"
    with house.bridge.app(uid, token=token) as app:
        app.all_before()


def test_a_browser_that_is_refused_can_read_the_close_code(house: House) -> None:
    """Browsers fail a handshake that offers subprotocols and gets none."""
    address = f"ws://{HOST}:{house.bridge.port}/ws/app/{unique('user')}/"
    for offered in (["sarvis.v2"], ["sarvis.v2", "no-token"]):
        with connect(
            address, subprotocols=[Subprotocol(name) for name in offered], proxy=None, open_timeout=PATIENCE_S
        ) as app:
            with pytest.raises(Exception, match="4503"):
                app.recv()
            assert app.subprotocol == "sarvis.v2"


def test_an_app_is_sent_away_when_its_token_expires(house: House) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.token(uid, valid_s=5)) as app:  # and ten seconds of leeway
        app.all_before()
        assert app.closed_with() == 4503
    assert rejected_with(house, uid, house.token(uid, valid_s=-60))[0] == 4503


def test_a_token_can_be_for_some_devices_only(house: House) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.token(uid, devices=["kitchen"])) as app:
        app.say({"type": "login", "device_id": "bedroom"})
        assert app.message("error")["code"] == "not_allowed"
        app.say({"type": "login", "device_id": "kitchen"})
        assert app.message("error", nth=2)["code"] == "no_such_device", "nobody has added it"


def test_a_caller_that_sends_too_much_gets_429_with_a_wait(tmp_path: Path) -> None:
    limits = {"FRAMES": "20/hour", "APP": "2/hour", "CALLER": "3/hour", "FAILURES": "2/hour"}
    with House(tmp_path, **{f"SARVIS_LIMITS__{name}": rate for name, rate in limits.items()}) as house:
        uid, other = unique("user"), unique("other")
        token = house.token(uid)
        with house.bridge.app(uid, token=token) as app, house.bridge.app(other, token=house.token(other)) as quiet:
            for _ in range(21):
                app.say({"type": "heartbeat"})
            assert app.closed_with() == 4008
            assert len(app.messages("heartbeat_ack")) == 20
            quiet.all_before()
        with house.bridge.app(uid, token=token) as app:
            app.all_before()
        with pytest.raises(InvalidStatus) as refused:
            house.bridge.app(uid, token=token)
        assert refused.value.response.status_code == 429
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 3600
        answers = [house.post(TRIGGER, house.caller) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 3600
        assert [house.post(TRIGGER, "guess").status_code for _ in range(3)] == [401, 401, 429]
        assert house.get("/metrics", house.operator).status_code == 200, "another credential is not affected"


def test_new_signing_keys_need_no_restart_and_dropped_ones_send_their_apps_away(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        uid, other = unique("user"), unique("other")
        old = house.token(uid)
        with house.bridge.app(uid, token=old) as app:
            house.sarvis("token", "rotate")
            new = house.token(other)
            leave = {"uid": other}
            wait_for("the new key", lambda: house.post("/api/auth/logout", new, leave).status_code == 200)
            with house.bridge.app(uid, token=old, client="second") as second:
                second.all_before()
            app.all_before()
            house.sarvis("token", "rotate", "--drop-old")
            assert app.closed_with() == 4503
        assert rejected_with(house, uid, old)[0] == 4503


@pytest.mark.parametrize("way", ["fast", "plain"])
def test_native_libraries_come_in_whatever_they_send_besides_the_token(tmp_path: Path, way: str) -> None:
    """Their own origin, their own subprotocols, in any order; a proxy's Authorization beside all that."""
    with House(tmp_path, SARVIS_BRIDGE__WEBSOCKET=way, SARVIS_AUTH__ORIGINS='["capacitor://localhost"]') as house:
        uid = unique("user")
        token, port = house.token(uid), house.bridge.port

        def answer(query: str = "", *offered: str, origin: str | None = None, **headers: str) -> tuple[str, str | None]:
            with connect(
                f"ws://{HOST}:{port}/ws/app/{uid}/{query}",
                subprotocols=[Subprotocol(name) for name in offered] or None,
                origin=Origin(origin) if origin else None,
                additional_headers=headers,
                proxy=None,
                open_timeout=PATIENCE_S,
            ) as app:
                return json.loads(app.recv())["type"], app.subprotocol

        came = "connection_established"
        for origin in (f"ws://{HOST}", f"wss://{HOST}:{port}", f"http://{HOST}:{port}", "capacitor://localhost"):
            assert answer("", "sarvis.v2", token, origin=origin) == (came, "sarvis.v2")
        for offered in (
            [token, "sarvis.v2"],
            ["graphql-ws", "sarvis.v2", "chat", token],
            ["sarvis.v1", token, "sarvis.v2"],
        ):
            assert answer("", *offered) == (came, "sarvis.v2")
        basic = "Basic " + base64.b64encode(b"proxy:password").decode()
        for offered in (["mqtt"], ["json", "graphql-transport-ws"], []):
            assert answer(f"?token={token}", *offered, Authorization=basic) == (came, None)
            assert answer(f"?key=junk&token=junk&token={token}", *offered) == (came, None)
            assert answer("", *offered, Authorization=f"Bearer {token}") == (came, None)
            assert answer("?token=junk", *offered, **{"X-API-Key": token, "Authorization": basic}) == (came, None)
        for origin in (f"http://{HOST}:1", "wss://evil.example", "ionic://localhost", "file://", "null"):
            with pytest.raises(InvalidStatus):
                answer("", "sarvis.v2", token, origin=origin)
        told = wait_for(
            "refusals in the log",
            lambda: [line for line in house.bridge.sarvis.events() if line.get("event") == "page_refused"][4:],
        )
        assert (told[0]["origin"], told[0]["host"]) == ("null", f"{HOST}:{port}")
        assert rejected_with(house, uid, "graphql-ws")[0] == 4503


# --- browsers, proxies, addresses ---


def test_a_page_of_another_origin_gets_nowhere(tmp_path: Path) -> None:
    with House(tmp_path, SARVIS_AUTH__ORIGINS='["https://app.example"]') as house:
        uid = unique("user")
        address, token = f"ws://{HOST}:{house.bridge.port}/ws/app/{uid}/", house.token(uid)
        for origin in ("https://evil.example", "null"):
            assert house.post(TRIGGER, house.caller, origin=origin).status_code == 403
            with pytest.raises(InvalidStatus):
                connect(address, origin=origin, subprotocols=[Subprotocol(token)], proxy=None)  # type: ignore[arg-type]
        for origin in ("https://app.example", house.bridge.url):
            assert house.post(TRIGGER, house.caller, origin=origin).status_code == 200
            offered = [Subprotocol("sarvis.v2"), Subprotocol(token)]
            with connect(address, origin=origin, subprotocols=offered, proxy=None, open_timeout=PATIENCE_S) as app:  # type: ignore[arg-type]
                assert json.loads(app.recv())["type"] == "connection_established"
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        for origin, status in (
            ("https://APP.example:443", 200),
            ("https://app.example", 200),
            ("https://evil.example", 400),
        ):
            url = house.bridge.url + TRIGGER
            answer = house.bridge.http.request("OPTIONS", url, headers={"origin": origin, **asked})
            assert answer.status_code == status, "a browser asks before it sends a credential"


def test_a_peer_cannot_forge_its_address(tmp_path: Path) -> None:
    with House(tmp_path, SARVIS_LEGACY__ALLOW_NETWORKS='["192.0.2.0/24"]') as house:
        assert house.post(TRIGGER, None, **{"x-forwarded-for": "192.0.2.1"}).status_code == 401
        assert house.post(TRIGGER, house.caller, **{"x-forwarded-for": "192.0.2.1"}).status_code == 200


def test_a_trusted_proxy_says_whose_request_it_hands_on(tmp_path: Path) -> None:
    networks = {"SARVIS_LEGACY__ALLOW_NETWORKS": '["192.0.2.0/24"]', "SARVIS_BRIDGE__TRUSTED_PROXIES": '["127.0.0.1"]'}
    with House(tmp_path, **networks) as house:
        assert house.post(TRIGGER, None, **{"x-forwarded-for": "192.0.2.1"}).status_code == 200
        assert house.post(TRIGGER, None, **{"x-forwarded-for": "198.51.100.1"}).status_code == 401
        assert house.post(TRIGGER, None).status_code == 401


def test_old_callers_in_a_named_network_need_no_key(tmp_path: Path) -> None:
    with House(tmp_path, SARVIS_LEGACY__ALLOW_NETWORKS='["127.0.0.0/8"]') as house:
        assert house.post(TRIGGER, None).json() == {"success": False, "message": "User not connected"}
        assert house.post("/api/auth/logout", None).status_code == 200
        assert house.get("/metrics").status_code == 403
        assert rejected_with(house, unique("user"), None)[0] == 4503


# --- what must not start ---


@pytest.mark.parametrize(
    ("settings", "told", "code"),
    [
        ({"SARVIS_BRIDGE__HOST": "0.0.0.0"}, "auth.mode = required", 3),
        ({"SARVIS_BRIDGE__TRUSTED_PROXIES": '["127.0.0.1"]'}, "bridge.trusted_proxies", 3),
        ({"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": "/dev/null/keys"}, "auth.key_file", 2),
        ({"SARVIS_BRIDGE__TLS_CERT": "none.crt", "SARVIS_BRIDGE__TLS_KEY": "none.key"}, "bridge.tls_cert", 3),
    ],
)
def test_a_bridge_that_would_be_open_or_cannot_be_closed_does_not_start(
    tmp_path: Path, settings: dict[str, str], told: str, code: int
) -> None:
    done = run_sarvis("bridge", "--port", "0", "--mqtt-url", NO_BROKER, cwd=tmp_path, settings=settings)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_bridge_is_not_reached_through_a_proxy_nor_by_a_foreign_name(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        assert bridge.http.get(f"{bridge.url}/metrics").status_code == 200
        assert bridge.http.get(f"{bridge.url}/metrics", headers={"x-forwarded-for": "203.0.113.1"}).status_code == 403
        assert bridge.http.get(f"{bridge.url}/metrics", headers={"host": "evil.example"}).status_code == 403
        assert bridge.http.get(f"{bridge.url}/metrics", headers={"host": f"localhost:{bridge.port}"}).status_code == 200
        assert (
            bridge.http.post(
                f"{bridge.url}/api/auth/logout", content=b'{"uid":"alice"}', headers={"origin": "http://evil.example"}
            ).status_code
            == 403
        )


# --- credentials on paper ---


def test_tokens_and_keys_are_given_out_once_and_listed_without_their_secrets(house: House) -> None:
    file = house.folder / "alice.token"
    assert house.sarvis("token", "app", "alice", "--days", "2", "--device", "kitchen", "--out", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert house.post("/api/auth/logout", token, {"uid": "alice"}).status_code == 200
    assert house.post("/api/auth/login", token, {"uid": "alice", "device_id": "bedroom"}).status_code == 403
    told = house.sarvis("token", "list")
    assert house.caller.split("_")[1] in told
    assert house.caller.split("_", 2)[2] not in told
    assert tokens.read(house.folder / "keys")[0].key_id in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["app", "a/b"], "UID must be"),
        (["app", "alice", "--device", "a b"], "--device must be"),
        (["api", ""], "NAME must be"),
        (["api", "x", "--out", "nowhere/x"], "--out nowhere/x cannot be written"),
        (["revoke", "nothing"], "there is no API key nothing"),
    ],
)
def test_what_cannot_be_given_out_is_named(house: House, arguments: list[str], told: str) -> None:
    done = run_sarvis("token", *arguments, cwd=house.folder, settings=house.settings)
    assert done.returncode in {1, 2}
    assert told in done.stderr
    assert not done.stdout
