"""What every path of ours answers, whichever method and however many slashes."""

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.types import Message, Scope

from infra.web.api import example, harden
from infra.web.methods import Resources, is_about_the_server


class Body(BaseModel):
    model_config = example({"uid": "alice"})

    uid: str


def app() -> Resources:
    inner = FastAPI(redirect_slashes=False, strict_content_type=False)

    @inner.get("/got")
    async def got(request: Request) -> str:
        return request.url.query or "fine"

    @inner.post("/posted")
    async def posted(body: Body) -> str:
        return body.uid

    @inner.get("/files/{name:path}")
    async def files(name: str) -> str:
        return name

    harden(inner, max_body_bytes=100)
    return Resources(inner, files="/files/")


async def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "scheme": "http", "root_path": "",
        "headers": lines, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1",
    }  # fmt: skip
    await app()(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("slashes", ["", "/", "//"])
async def test_a_slash_at_the_end_changes_nothing(slashes: str) -> None:
    assert await ask("GET", "/got" + slashes) == await ask("GET", "/got")
    assert await ask("POST", "/posted" + slashes, b'{"uid":"bob"}') == await ask("POST", "/posted", b'{"uid":"bob"}')
    assert (await ask("GET", "/none" + slashes))[0] == 404


async def test_among_files_a_slash_matters() -> None:
    assert (await ask("GET", "/files/a/"))[2] == b'"a/"'


@pytest.mark.parametrize("path", ["/got", "/got/"])
async def test_head_is_get_without_its_body(path: str) -> None:
    status, headers, body = await ask("HEAD", path)
    assert (status, headers) == (await ask("GET", path))[:2]
    assert body == b""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/got", "GET, HEAD, OPTIONS"),
        ("/got/", "GET, HEAD, OPTIONS"),
        ("/posted", "OPTIONS, POST"),
        ("/", "OPTIONS"),
        ("*", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_options_says_what_may_be_asked(path: str, allowed: str) -> None:
    assert await ask("OPTIONS", path) == (204, {"allow": allowed}, b"")


async def test_options_of_what_is_not_there_is_404() -> None:
    assert (await ask("OPTIONS", "/none"))[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "POST"])
async def test_another_method_is_405_and_says_what_may_be_asked(method: str) -> None:
    status, headers, body = await ask(method, "/got")
    assert (status, headers["allow"], body) == (405, "GET, HEAD, OPTIONS", b'{"detail":"Method Not Allowed"}')
    assert (await ask("HEAD", "/posted"))[0] == 405


def test_only_options_of_the_root_is_about_the_server() -> None:
    assert is_about_the_server({"method": "OPTIONS", "path": "/"})
    for method, path in (("GET", "/"), ("OPTIONS", "/got"), ("OPTIONS", "*")):
        assert not is_about_the_server({"method": method, "path": path})


TYPES = [
    "application/json", "application/json; charset=euc-kr", "text/plain", "text/plain;charset=ISO-8859-1", "junk", "",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "*/*", ";",
]  # fmt: skip


@pytest.mark.parametrize("said", TYPES)
async def test_a_body_is_json_whatever_type_it_is_said_to_have(said: str) -> None:
    for body in (b'{"uid":"bob"}', b'\xef\xbb\xbf{"uid":"bob"}\r\n', b"{", b"", b"uid=bob", b'{"uid":"\xff"}'):
        assert await ask("POST", "/posted", body, content_type=said) == await ask("POST", "/posted", body)
    assert (await ask("POST", "/posted", '{"uid":"밥"}'.encode(), content_type=said))[2] == '"밥"'.encode()


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 422), (b"uid=bob", 422), (b"{}", 422), (b"[]", 422), (b'"\xff"', 400), (b"[" * 99, 422)]
)
async def test_a_refusal_shows_what_is_wanted(body: bytes, status: int) -> None:
    answered, _, told = await ask("POST", "/posted", body)
    assert answered == status
    assert b'"example":{"uid":"alice"}' in told
    assert b"bob" not in told
