"""The console of a real bridge: who comes in, until when, what a form may do, and how much a page reads."""

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from bridge.console.feed import MOST_VIEWERS
from infra.settings.bridge import StoreSettings
from sarvis import devices
from sarvis.device_list import Wanted
from tests.support.processes import run_sarvis
from tests.support.services import Household
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import NO_BROKER, Bridge, EmbeddedBroker, Mqtt, unique

MARKUP = "<img src=x onerror=alert(1)>"
PAGES = ("", "/devices", "/versions", "/people", "/wakes", "/rollouts", "/logouts", "/keys", "/audit", "/health")
MANY = 10_000


class House(Household):
    """A bridge without a broker, with its keys."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.settings = {
            "SARVIS_AUTH__MODE": "required",
            "SARVIS_AUTH__KEY_FILE": str(folder / "keys"),
            "SARVIS_LIMITS__FAILURES": "1000000/minute",
            **settings,
        }
        self.folder = folder
        self.bridge = Bridge(folder, NO_BROKER, self.settings)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.bridge)
        self.operator, self.viewer = self.key("operator"), self.key("viewer")

    def key(self, role: str, *more: str) -> str:
        return self.sarvis("token", "api", role, "--role", role, *more)

    def sarvis(self, *arguments: str, operator: str | None = None) -> str:
        more = {} if operator is None else {"SARVIS_OPERATOR__API_KEY": operator}
        done = run_sarvis(*arguments, cwd=self.folder, settings=self.settings | more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def visitor(self) -> "Visitor":
        return Visitor(self.bridge.url)


class Visitor:
    """A browser, as far as the bridge sees it: it keeps cookies and says from which site a form comes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx2.Client(trust_env=False, timeout=PATIENCE_S)
        self.token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str = "", **query: str) -> httpx2.Response:
        answer = self.client.get(f"{self.url}/console{path}", params=query or None)
        if found := re.search(r'name="token" value="([^"]+)"', answer.text):
            self.token = found[1]
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        own = {"origin": self.url, "sec-fetch-site": "same-origin"}
        form = {"token": self.token, **fields}
        return self.client.post(f"{self.url}/console{path}", data=form, headers=own if headers is None else headers)

    def log_in(self, key: str) -> "Visitor":
        assert self.get().status_code == 401
        answer = self.post("/log-in", key=key, at="/console/keys")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/keys")
        assert self.get().status_code == 200
        return self


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as it:
        yield it
        words = "\n".join([*it.bridge.sarvis.out, *it.bridge.sarvis.err])
    assert not re.search(r"sarvis_[0-9a-f]{12}_", words), "a key is in the log"


@pytest.fixture
def operator(house: House) -> Iterator[Visitor]:
    with house.visitor() as visitor:
        yield visitor.log_in(house.operator)


# --- log-in ---


def test_nothing_is_shown_before_a_log_in_but_the_form(house: House) -> None:
    with house.visitor() as visitor:
        for path in (*PAGES, "/devices/jetson-1", "/person?uid=alice", "/wake?id=1", "/nothing-here"):
            answer = visitor.get(path)
            assert (answer.status_code, answer.text.count("<form")) == (401, 2), path
            assert 'name="key"' in answer.text
            assert answer.headers["cache-control"] == "no-store"
        assert visitor.get("/static/console.css").status_code == 200
        assert visitor.get("/static/..%2fwords.py").status_code in {401, 404}


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_operators_and_viewers_see_every_page(house: House, role: str) -> None:
    with house.visitor().log_in(house.operator if role == "operator" else house.viewer) as visitor:
        for path in PAGES:
            assert visitor.get(path).status_code == 200, path
        assert visitor.get("/nothing-here").status_code == 404
        assert visitor.get("/devices/none").status_code == 404


def test_the_cookie_is_for_this_site_and_no_script(house: House) -> None:
    with house.visitor() as visitor:
        visitor.get()
        told = visitor.post("/log-in", key=house.viewer, at="").headers["set-cookie"].lower()
        for part in ("sarvis_console=", "httponly", "samesite=strict", "path=/console", "max-age=43200"):
            assert part in told
        page = visitor.get()
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(
            r"<script>|<script [^>]*>[^<]|\sstyle=|\son\w+=|https?://", page.text.replace(visitor.url, "")
        )


@pytest.mark.parametrize("key", ["", "wrong", f"sarvis_{'0' * 12}_{'x' * 43}", "싸비스"])
def test_a_wrong_key_is_refused_and_said_so(house: House, key: str) -> None:
    with house.visitor() as visitor:
        visitor.get()
        answer = visitor.post("/log-in", key=key)
        assert answer.status_code == 401
        assert "This key is not valid" in answer.text
        assert "set-cookie" not in answer.headers
        assert visitor.get().status_code == 401


def test_a_callers_key_opens_no_console(house: House) -> None:
    with house.visitor() as visitor:
        visitor.get()
        key = house.key("caller")
        refused = visitor.post("/log-in", key=key)
        assert refused.status_code == 403
        assert "This key is a caller" in refused.text
        assert visitor.get().status_code == 401


def test_guessing_keys_is_limited(tmp_path: Path) -> None:
    with House(tmp_path, SARVIS_LIMITS__FAILURES="5/hour") as house, house.visitor() as visitor:
        visitor.get()
        answers = [visitor.post("/log-in", key=f"sarvis_{'0' * 12}_{'x' * 43}") for _ in range(6)]
        assert [answer.status_code for answer in answers[:-1]] == [401] * 5
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) > 0
        assert "Too many attempts" in answers[-1].text


def test_leaving_the_console_ends_the_log_in(operator: Visitor) -> None:
    kept = dict(operator.client.cookies)
    assert operator.post("/log-out").status_code == 303
    assert operator.get().status_code == 401
    operator.client.cookies.update(kept)
    assert operator.get().status_code == 401, "the cookie is worth nothing on the bridge either"


def test_a_revoked_key_ends_its_log_ins(house: House) -> None:
    key = house.key("operator")
    with house.visitor().log_in(key) as visitor:
        house.sarvis("token", "revoke", key.split("_")[1])
        wait_for("the log-in ends", lambda: visitor.get().status_code == 401)
        assert visitor.post("/people/log-out", uid="alice", sure="alice").status_code == 401


def test_an_expired_key_ends_its_log_ins(house: House) -> None:
    key = house.key("viewer", "--days", "0.0003")
    with house.visitor().log_in(key) as visitor:
        wait_for("the log-in ends", lambda: visitor.get().status_code == 401)


def test_a_restart_ends_every_log_in_and_the_old_form_says_so(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.visitor() as visitor:
        visitor.log_in(house.operator)
        house.bridge.kill()
        house.bridge.start()
        answer = visitor.post("/people/log-out", uid="alice", sure="alice")
        assert answer.status_code == 401
        visitor.get()
        visitor.log_in(house.operator)


# --- links ---


def test_a_link_logs_a_browser_in_once(house: House) -> None:
    link = house.sarvis("console", "--bridge", house.bridge.url, operator=house.operator)
    assert link.startswith(f"{house.bridge.url}/console/log-in?once=")
    once = link.partition("once=")[2]
    with house.visitor() as visitor, house.visitor() as second:
        for _ in range(2):
            assert 'name="once"' in visitor.get("/log-in", once=once).text, "to look at it uses nothing up"
        assert visitor.post("/log-in", once=once, at="/console").status_code == 303
        assert visitor.get().status_code == 200
        assert visitor.get("/log-in", once=once).status_code == 303, "who is in needs no form"
        second.get()
        refused = second.post("/log-in", once=once)
        assert refused.status_code == 401
        assert "This link was used" in refused.text
        assert second.get().status_code == 401
    assert once not in "\n".join(house.bridge.sarvis.err)


def test_a_link_ends_with_its_key_and_a_viewer_makes_none(house: House) -> None:
    key = house.key("operator")
    link = house.sarvis("console", "--bridge", house.bridge.url, operator=key)
    house.sarvis("token", "revoke", key.split("_")[1])
    with house.visitor() as visitor:
        headers = {"authorization": f"Bearer {key}"}
        address = f"{house.bridge.url}/api/console/link"
        wait_for("the key is refused", lambda: visitor.client.post(address, headers=headers).status_code == 401)
        visitor.get()
        assert visitor.post("/log-in", once=link.partition("once=")[2]).status_code == 401
        headers = {"authorization": f"Bearer {house.viewer}"}
        assert visitor.client.post(address, headers=headers).status_code == 403


def test_an_open_bridge_needs_no_link(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        done = run_sarvis("console", "--bridge", bridge.url, "--json", cwd=tmp_path)
        assert json.loads(done.stdout) == {"link": f"{bridge.url}/console", "within_s": 600.0}


# --- forms ---


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {},
    ],
)
def test_a_form_of_another_site_changes_nothing(house: House, operator: Visitor, headers: dict[str, str]) -> None:
    uid = unique("user")
    token = house.sarvis("token", "app", uid)
    with house.bridge.app(uid, token=token) as app:
        answer = operator.post("/people/log-out", headers, uid=uid, sure=uid)
        assert answer.status_code == 403
        app.all_before()
        assert app.code is None


@pytest.mark.parametrize("token", ["", "wrong", "싸"])
def test_a_form_without_the_token_of_its_log_in_changes_nothing(house: House, operator: Visitor, token: str) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.sarvis("token", "app", uid)) as app:
        assert operator.post("/people/log-out", token=token, uid=uid, sure=uid).status_code == 403
        app.all_before()
        assert app.code is None
    with house.visitor().log_in(house.operator) as other:
        assert operator.post("/people/log-out", token=other.token, uid=uid, sure=uid).status_code == 403


def test_a_viewer_has_no_buttons_and_its_forms_are_refused(house: House) -> None:
    uid = unique("user")
    with (
        house.bridge.app(uid, token=house.sarvis("token", "app", uid)) as app,
        house.visitor().log_in(house.operator) as operator,
        house.visitor().log_in(house.viewer) as viewer,
    ):
        assert 'action="/console/people/log-out"' in operator.get("/person", uid=uid).text
        assert 'action="/console/people/log-out"' not in viewer.get("/person", uid=uid).text
        for path in ("/people/log-out", "/devices/jetson-1/ring", "/nothing-here"):
            answer = viewer.post(path, uid=uid, sure=uid)
            assert answer.status_code == 403, path
            assert "may only look" in answer.text
        app.all_before()
        assert app.code is None
        assert viewer.post("/language", to="ko").status_code == 303
        assert '<html lang="ko">' in viewer.get().text


def test_an_operator_logs_a_user_out_by_the_name(house: House, operator: Visitor) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.sarvis("token", "app", uid)) as app:
        page = operator.get("/person", uid=uid)
        assert page.status_code == 200
        wrong = operator.post("/people/log-out", uid=uid, sure=f"{uid}x", at=f"/console/person?uid={uid}")
        assert "told=not_sure" in wrong.headers["location"]
        app.all_before()
        assert app.code is None
        two_lines = operator.post("/people/log-out", uid=uid, sure=uid, note="a\nb", at=f"/console/person?uid={uid}")
        assert "told=bad_note" in two_lines.headers["location"]
        app.all_before()
        assert app.code is None
        why = "휴대폰을 잃어버림 <b>"
        done = operator.post("/people/log-out", uid=uid, sure=uid, note=why, at=f"/console/person?uid={uid}")
        assert (done.status_code, done.headers["location"]) == (303, f"/console/person?uid={uid}&told=logged_out")
        assert app.closed_with() == 4501
        assert "Logged out." in operator.get(f"/person?uid={uid}&told=logged_out").text
        assert '<p class="told"' not in operator.get(f"/person?uid={uid}&told=nonsense").text
        key_id = house.operator.split("_")[1]
        for path, query in (("/audit", {"about": uid}), ("/person", {"uid": uid})):
            page_text = operator.get(path, **query).text
            assert f"key:{key_id}:operator (http, 127.0.0.1)" in page_text
            assert "operator: 휴대폰을 잃어버림 &lt;b&gt;</td>" in page_text


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/wakes", {"before": "x", "uid": "a" * 500}),
        ("/wakes", {"before": "nan"}),
        ("/wakes", {"before": "1e300"}),
        ("/audit", {"before": "-1"}),
        ("/audit", {"before": "1e12"}),
        ("/logouts", {"after": "99999999999999999999"}),
        ("/devices", {"state": "none", "after": "\u0000", "q": "%"}),
        ("/people", {"q": "\ud7ff", "after": "'"}),
    ],
)
def test_no_address_breaks_a_page(operator: Visitor, path: str, query: dict[str, str]) -> None:
    assert operator.get(path, **query).status_code == 200


def test_a_time_that_is_none_is_named(house: House, operator: Visitor) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.sarvis("token", "app", uid)):
        assert "This is no time" in operator.get("/person", uid=uid, at="noon").text
        assert "This is no time" not in operator.get("/person", uid=uid, at="00:00").text


def test_devices_are_filtered_by_tag_and_by_what_they_run_and_counted(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker, Bridge(tmp_path, broker.url) as bridge, Visitor(bridge.url) as visitor:
        with Mqtt(broker.port) as mqtt:
            for number, model in enumerate(("ssabiseu", "ssabiseu", MARKUP)):
                hello = {"install_id": "i", "boot": 1, "seq": 1, "nonce": "n", "version": "0.2.0", "model": model}
                mqtt.publish(f"devices/fleet-{number}/hello", hello)
                mqtt.publish(f"devices/fleet-{number}/status", {"state": "online"})
            counted = r"<td>0\.2\.0</td><td>ssabiseu</td><td class=\"number\"><a href=\"([^\"]*)\">2</a>"
            wait_for("they are counted", lambda: re.search(counted, visitor.get("/versions").text))
            wait_for("all are online", lambda: len(listed(visitor, state="online")) == 3)
        arguments = ("device", "tag", "fleet-0", "fleet-2", "--add", "floor-2")
        done = run_sarvis(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert listed(visitor, tag="floor-2") == ["fleet-0", "fleet-2"]
        assert listed(visitor, tag="floor-2", model="ssabiseu") == ["fleet-0"]
        assert listed(visitor, tag="floor-2", model="ssabiseu", state="online") == ["fleet-0"]
        assert listed(visitor, version="-") == []
        assert 'href="/console/devices?tag=floor-2">floor-2</a>: 2' in visitor.get("/versions").text
        answer = bridge.http.get(f"{bridge.url}/api/ops/devices", params={"tag": "floor-2"}).json()
        assert [(row["device_id"], row["tags"], row["version"]) for row in answer["rows"]] == [
            ("fleet-0", ["floor-2"], "0.2.0"),
            ("fleet-2", ["floor-2"], "0.2.0"),
        ]
        assert MARKUP not in visitor.get("/versions").text


def test_a_restart_invents_no_time_at_which_a_device_was_seen(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker, Mqtt(broker.port) as mqtt:

        def told() -> dict[str, object]:
            row: dict[str, object] = bridge.http.get(f"{bridge.url}/api/ops/devices").json()["rows"][0]
            return {name: row[name] for name in ("seen_at", "version", "model", "tags")}

        mqtt.publish("devices/jetson-1/status", {"state": "online"}, retain=True)
        with Bridge(tmp_path, broker.url, {"SARVIS_BRIDGE__STORIES_DAYS": "0"}) as bridge:
            bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson-1"})
            assert told()["seen_at"] is None, "a log-in there is no report of the device"
            hello = {"install_id": "i", "boot": 1, "seq": 1, "nonce": "n", "version": "0.2.0", "model": "ssabiseu"}
            mqtt.publish("devices/jetson-1/hello", hello)
            wait_for("its report is stored", lambda: told()["seen_at"])
            before = told()
        with Bridge(tmp_path, broker.url, {"SARVIS_BRIDGE__STORIES_DAYS": "0"}) as bridge:
            wait_for("the bridge is ready", lambda: bridge.http.get(f"{bridge.url}/readyz").status_code == 200)
            assert told() == before


def listed(visitor: Visitor, **asked: str) -> list[str]:
    """The devices on the console's first page of a list."""
    return re.findall(r'<tr data-device="([^"]+)"', visitor.get("/devices", **asked).text)


def test_why_a_phone_did_not_ring_is_said_in_the_language_of_the_page(house: House, operator: Visitor) -> None:
    uid = unique("user")
    with house.bridge.app(uid, token=house.sarvis("token", "app", uid)):
        for language, said in (("ko", "원장에는 기기에 로그인한 기록이 없습니다"), ("en", "was never logged in")):
            operator.get()
            operator.post("/language", to=language)
            assert said in operator.get("/person", uid=uid).text


# --- without credentials ---


def test_an_open_bridge_asks_for_no_log_in_and_takes_no_foreign_form(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge, Visitor(bridge.url) as visitor, bridge.app("alice") as app:
        for path in PAGES:
            assert visitor.get(path).status_code == 200, path
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
            assert visitor.post("/people/log-out", headers, uid="alice", sure="alice").status_code == 403
        assert visitor.post("/people/log-out", token="", uid="alice", sure="alice").status_code == 403
        rebound = visitor.client.get(f"{bridge.url}/console", headers={"host": "evil.example"})
        assert rebound.status_code == 403
        proxied = visitor.client.get(f"{bridge.url}/console", headers={"x-forwarded-for": "192.0.2.1"})
        assert proxied.status_code == 403
        app.all_before()
        assert visitor.post("/people/log-out", uid="alice", sure="alice").status_code == 303
        assert app.closed_with() == 4501


def test_names_that_look_like_markup_are_text(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge, Visitor(bridge.url) as visitor:
        bridge.post("/api/auth/login", {"uid": MARKUP, "device_id": "jetson-1"})
        for path, query in (
            ("/people", {}), ("/person", {"uid": MARKUP}), ("/audit", {"about": MARKUP}),
            ("/devices", {}), ("/devices/jetson-1", {}), ("/wakes", {"uid": MARKUP}),
        ):  # fmt: skip
            page = visitor.get(path, **query)
            assert page.status_code == 200
            assert MARKUP not in page.text
            assert "&lt;img src=x onerror=alert(1)&gt;" in page.text, path


def test_without_stories_the_pages_say_so(tmp_path: Path) -> None:
    settings = {"SARVIS_BRIDGE__STORIES_DAYS": "0"}
    with Bridge(tmp_path, NO_BROKER, settings) as bridge, Visitor(bridge.url) as visitor, bridge.app("alice"):
        for path in (*PAGES, "/person?uid=alice", "/wake?id=none"):
            assert visitor.get(path).status_code in {200, 404}, path
        assert "stories are off" in visitor.get("/wakes").text


def test_a_page_takes_no_lock_of_the_ledger_from_the_bridge(tmp_path: Path) -> None:
    """The kernel drops all locks of a process on a file that it closes; then others may remove the bridge's log."""
    with Bridge(tmp_path, NO_BROKER) as bridge, Visitor(bridge.url) as visitor:
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson-1"})

        def locked() -> set[str]:
            files = {str(path.stat().st_ino): path.name for path in tmp_path.glob("ledger.db*")}
            rows = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
            mine = [row for row in rows if row[1] == "POSIX" and row[4] == str(bridge.sarvis.process.pid)]
            return {files[number] for row in mine if (number := row[5].rsplit(":", 1)[1]) in files}

        before = locked()
        assert before, "the bridge has locks on its ledger"
        for path in ("/devices", "/devices/jetson-1", "/people", "/person?uid=alice", "/audit", "/logouts", "/keys"):
            assert visitor.get(path).status_code == 200
            assert locked() >= before, path


# --- the feed ---


def events(answer: httpx2.Response) -> Iterator[dict[str, Any]]:
    """What a feed tells; fails if that goes on for too long: it has a sign of life at least every 15 s."""
    until = time.monotonic() + 2 * PATIENCE_S
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
        assert time.monotonic() < until, "the feed did not tell what was waited for"


def test_an_open_page_is_told_the_figures_when_they_change(tmp_path: Path) -> None:
    with (
        Bridge(tmp_path, NO_BROKER) as bridge,
        Visitor(bridge.url) as visitor,
        visitor.client.stream("GET", f"{bridge.url}/console/feed") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        assert next(told)["figures"]["apps"] == "0"
        with bridge.app("alice"):
            assert "1" in (news.get("figures", {}).get("apps") for news in told), "it ended"


def test_an_open_overview_is_told_how_many_wakes_there_were_and_how_long_they_took(tmp_path: Path) -> None:
    with (
        Bridge(tmp_path, NO_BROKER) as bridge,
        Visitor(bridge.url) as visitor,
        bridge.app("alice") as app,
        visitor.client.stream("GET", f"{bridge.url}/console/feed") as answer,
    ):
        told = events(answer)
        first = next(told)
        assert first["paths"]["rate"] == first["paths"]["p50"] == ""
        assert first["figures"]["rate_told"].startswith("Wakes in the last hour: 0;")
        assert re.search(r"5\d min are not known", first["figures"]["rate_told"])
        bridge.post("/api/voice-command/trigger", {"uid": "alice", "command": "wake_up", "timestamp": "now"})
        app.message("voice_command")
        news = next(news for news in told if news.get("paths", {}).get("p50"))
        assert news["figures"]["rate_told"].startswith("Wakes in the last hour: 1;")
        assert "Half of 1 confirmed wakes within" in news["figures"]["latency_told"]
        assert news["paths"]["rate"].startswith("M5")
        page = visitor.get().text
        assert re.search(r'data-path="rate" d="M5', page)
        assert not re.search(r"\sstyle=", page)


@pytest.mark.parametrize("asked", ["again=ledger", "again=all", "again=device&about=jetson-1"])
def test_an_open_page_is_told_to_load_itself_again_after_a_change(tmp_path: Path, asked: str) -> None:
    only_then = {"ALTERED": "bridge.console.feed:AT_LATEST_S=100000"}
    with (
        Bridge(tmp_path, NO_BROKER, only_then, module="tests.support.altered") as bridge,
        Visitor(bridge.url) as visitor,
        visitor.client.stream("GET", f"{bridge.url}/console/feed?{asked}") as answer,
    ):
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "jetson-1"})
        assert next(events(answer)) == {"again": True}


def test_an_open_page_is_told_what_changed_of_its_own_rows(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge, Visitor(bridge.url) as visitor:
        address = f"{bridge.url}/console/feed?id=jetson-1&id=jetson-2"
        with visitor.client.stream("GET", address) as answer:
            told = events(answer)
            assert [row["id"] for row in next(told)["rows"]] == ["jetson-1", "jetson-2"]
            bridge.post("/api/auth/login", {"uid": MARKUP, "device_id": "jetson-2"})
            [row] = next(told)["rows"]
            assert (row["id"], row["user"], row["link"]) == (
                "jetson-2", MARKUP, "/console/person?uid=%3Cimg+src%3Dx+onerror%3Dalert%281%29%3E"
            )  # fmt: skip


def test_a_feed_ends_with_its_log_in(house: House) -> None:
    key = house.key("viewer")
    with house.visitor().log_in(key) as visitor:
        with visitor.client.stream("GET", f"{visitor.url}/console/feed") as answer:
            told = events(answer)
            assert next(told)
            house.sarvis("token", "revoke", key.split("_")[1])
            for _ in told:
                pass  # until it ends
        assert visitor.get("/feed").status_code == 401


def test_the_number_of_viewers_is_bounded_and_one_who_leaves_makes_room(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge, Visitor(bridge.url) as visitor:
        address = f"{bridge.url}/console/feed"
        with ExitStack() as open_pages:
            answers = [open_pages.enter_context(visitor.client.stream("GET", address)) for _ in range(MOST_VIEWERS)]
            feeds = [events(answer) for answer in answers]
            assert all("figures" in next(told) for told in feeds)
            refused = visitor.client.get(address)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")

        def has_room() -> bool:
            with visitor.client.stream("GET", address) as answer:
                return answer.status_code == 200

        wait_for("there is room again", has_room)


def test_a_viewer_who_reads_nothing_delays_no_end_of_the_bridge(tmp_path: Path) -> None:
    with (
        Bridge(tmp_path, NO_BROKER) as bridge,
        Visitor(bridge.url) as visitor,
        visitor.client.stream("GET", f"{bridge.url}/console/feed") as answer,
    ):
        told = events(answer)
        assert next(told)
        bridge.sarvis.process.send_signal(signal.SIGTERM)
        assert bridge.sarvis.process.wait(PATIENCE_S) == 0


# --- many ---


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Visitor, Path]]:
    """A bridge that knows ten thousand devices."""
    folder = tmp_path_factory.mktemp("crowded")
    ledger = folder / "ledger.db"
    names = [Wanted(f"jetson-{number:05d}", f"user-{number:05d}", None) for number in range(MANY)]
    with Bridge(folder, NO_BROKER) as bridge, Visitor(bridge.url) as visitor:
        devices.put(StoreSettings(url=f"sqlite:///{ledger}"), names)
        yield visitor, ledger


def rows(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/console/devices/([\w-]+)">', page)


def test_a_page_has_sixty_of_ten_thousand_devices_and_the_next_one_goes_on(crowded: tuple[Visitor, Path]) -> None:
    visitor, _ = crowded
    found: list[str] = []
    address = "/devices"
    while address and len(found) < 180:
        page = visitor.get(address).text
        assert len(rows(page)) == 60
        found += rows(page)
        following = re.search(r'<a href="/console(/devices[^"]*)" rel="next">', page)
        assert following is not None
        address = following[1].replace("&amp;", "&")
    assert found == [f"jetson-{number:05d}" for number in range(180)]
    assert rows(visitor.get("/devices", q="jetson-0999").text) == [f"jetson-0999{digit}" for digit in range(10)]
    last = visitor.get("/devices", after="jetson-09990").text
    assert rows(last) == [f"jetson-0999{digit}" for digit in range(1, 10)]
    assert 'rel="next"' not in last


def test_a_page_is_read_by_its_key(crowded: tuple[Visitor, Path]) -> None:
    _, ledger = crowded
    plans = {
        "devices": "SELECT * FROM devices WHERE device_id > 'a' AND substr(device_id, 1, 0) = '' "
        "ORDER BY device_id LIMIT 61",
        "audit": "SELECT * FROM audit WHERE number < 9 AND TRUE ORDER BY number DESC LIMIT 61",
        "outbox": "SELECT * FROM outbox WHERE number > 9 ORDER BY number LIMIT 61",
        "promises": "SELECT uid FROM promises WHERE uid > 'a' AND substr(uid, 1, 0) = '' ORDER BY uid LIMIT 61",
    }
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        for name, query in plans.items():
            told: list[Any] = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert len(told) == 1, told
            assert told[0].startswith(f"SEARCH {name} USING "), told
