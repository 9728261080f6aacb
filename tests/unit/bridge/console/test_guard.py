"""Which forms the console takes for its own, and where they may lead."""

import pytest
from starlette.requests import Request

from bridge.console.actions import _place
from bridge.console.guard import BY_ITSELF, form_of, is_console, is_own_form, is_use
from bridge.console.pages import STATIC

HOST = (b"host", b"hub.home:8000")


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ([(b"origin", b"http://hub.home:8000"), (b"sec-fetch-site", b"same-origin")], True),
        ([(b"origin", b"http://hub.home:8000")], True),
        ([(b"sec-fetch-site", b"same-origin")], True),
        ([], False),
        ([(b"origin", b"http://evil.example")], False),
        ([(b"origin", b"null")], False),
        ([(b"origin", b"http://hub.home:8000"), (b"sec-fetch-site", b"cross-site")], False),
        ([(b"origin", b"http://hub.home:8000"), (b"sec-fetch-site", b"same-site")], False),
        ([(b"sec-fetch-site", b"none")], False),
        ([(b"origin", b"http://hub.home:8000"), (b"origin", b"http://evil.example")], False),
    ],
)
def test_a_form_is_our_own_only_if_the_browser_says_so(headers: list[tuple[bytes, bytes]], *, is_own: bool) -> None:
    scope = {"type": "http", "scheme": "http", "headers": [HOST, *headers]}
    assert is_own_form(scope) is is_own


@pytest.mark.parametrize(
    ("path", "headers", "is_by_a_person"),
    [
        ("/console/wakes", [], True),
        ("/console/wakes", [(b"x-sarvis-by-itself", b"1")], False),
        ("/console/feed", [], False),
    ],
)
def test_a_page_that_follows_what_happens_is_used_by_nobody(
    path: str, headers: list[tuple[bytes, bytes]], *, is_by_a_person: bool
) -> None:
    assert is_use(Request({"type": "http", "path": path, "headers": headers})) is is_by_a_person
    script = (STATIC / "live.js").read_text(encoding="utf-8")
    assert f'"{BY_ITSELF}"' in script


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"uid=alice&token=t", {"uid": "alice", "token": "t"}),
        (b"uid=alice&uid=bob", {"uid": "alice"}),
        (b"uid=%EC%8B%B8+x&note=", {"uid": "싸 x", "note": ""}),
        (b"\xff", {}),
        (b"&".join(b"a%d=1" % number for number in range(30)), {}),
        (b'{"uid":"alice"}', {'{"uid":"alice"}': ""}),
        (b"", {}),
    ],
)
def test_the_fields_of_a_form(body: bytes, fields: dict[str, str]) -> None:
    assert form_of(body) == fields


@pytest.mark.parametrize(
    ("at", "leads_to"),
    [
        ("/console/devices?q=jet&after=a", "/console/devices?q=jet&after=a"),
        ("/console", "/console"),
        ("", "/console"),
        ("/app/", "/console"),
        ("/consoles", "/console"),
        ("//evil.example/console", "/console"),
        ("http://evil.example/console", "/console"),
        ("javascript:alert(1)", "/console"),
        ("/console\\evil.example", "/console"),
        ("/console\r\nset-cookie: a=b", "/console"),
        ("//[", "/console"),
    ],
)
def test_a_form_leads_to_pages_of_the_console_only(at: str, leads_to: str) -> None:
    assert _place(at) == leads_to


@pytest.mark.parametrize(
    ("path", "is_it"),
    [("/console", True), ("/console/", True), ("/console/keys", True), ("/consoles", False), ("/app/console", False)],
)
def test_what_is_below_the_console(path: str, *, is_it: bool) -> None:
    assert is_console(path) is is_it
