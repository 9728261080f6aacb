"""How an app comes in, and who does not."""

import pytest

from tests.integration.websocket.peer import V2, Answer, App, Peer, beat, heartbeat
from tests.support.world import HOST, Bridge, unique
from tools.fuzz.rawsocket import PING, TEXT, frame, handshake

ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455, section 1.3: the answer to its example's key, which is ours."""

HANGUL = "%EC%8B%B8%EB%B9%84%EC%8A%A4"


def path(uid: str | None = None, query: str = "") -> str:
    return f"/ws/app/{uid or unique('user')}/{query}"


def ask(bridge: Bridge, request: bytes) -> Answer:
    with Peer(bridge.port) as peer:
        peer.say(request)
        return peer.answer


def test_the_answer_is_that_of_the_rfc(bridge: Bridge) -> None:
    answer = ask(bridge, handshake(path(), {}))
    assert answer.status == 101
    assert answer.values("sec-websocket-accept") == [ACCEPT]
    assert [value.lower() for value in answer.values("upgrade")] == ["websocket"]
    assert [value.lower() for value in answer.values("connection")] == ["upgrade"]
    for absent in ("sec-websocket-protocol", "sec-websocket-extensions", "content-length", "transfer-encoding"):
        assert answer.values(absent) == []


@pytest.mark.parametrize(
    ("headers", "more", "chosen"),
    [
        ({"Sec-WebSocket-Protocol": V2}, "", [V2]),
        ({"Sec-WebSocket-Protocol": f"chat, {V2}"}, "", [V2]),
        ({"Sec-WebSocket-Protocol": f" {V2} ,chat"}, "", [V2]),
        ({"Sec-WebSocket-Protocol": "chat"}, f"Sec-WebSocket-Protocol: {V2}\r\n", [V2]),
        ({"sec-websocket-protocol": V2}, "", [V2]),
        ({"Sec-WebSocket-Protocol": "chat"}, "", []),
        ({"Sec-WebSocket-Protocol": "SARVIS.V2"}, "", []),
        ({"Sec-WebSocket-Protocol": "sarvis.v20, sarvis"}, "", []),
        ({}, "", []),
    ],
)
def test_a_subprotocol_is_chosen_only_when_it_is_offered(
    bridge: Bridge, headers: dict[str, str], more: str, chosen: list[str]
) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(), headers, more=more))
        peer.welcomed()
        assert peer.answer.status == 101
        assert peer.answer.values("sec-websocket-protocol") == chosen
        assert ("missed" in peer.messages[0]) == bool(chosen)


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "WEBSOCKET"},
        {"Connection": "upgrade"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive,UPGRADE"},
    ],
)
def test_case_does_not_matter_and_the_connection_may_be_more(bridge: Bridge, headers: dict[str, str]) -> None:
    assert ask(bridge, handshake(path(), headers)).status == 101


@pytest.mark.parametrize("name", ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Host"])
def test_a_header_that_is_missing_makes_it_no_handshake(bridge: Bridge, name: str) -> None:
    assert ask(bridge, handshake(path(), {}, leave_out=name)).status in {400, 404, 426}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "h2c"),
        ("Upgrade", "websockets"),
        ("Connection", "close"),
        ("Connection", "keep-alive"),
        ("Connection", "Upgraded"),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Key", "AAAA"),
        ("Sec-WebSocket-Key", "not base64, by no means!"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE="),
        ("Sec-WebSocket-Key", "A" * 5000),
    ],
)
def test_a_header_that_is_wrong_makes_it_no_handshake(bridge: Bridge, name: str, value: str) -> None:
    answer = ask(bridge, handshake(path(), {name: value}))
    assert answer.status in {400, 404, 426}
    assert answer.values("sec-websocket-accept") == []


@pytest.mark.parametrize("line", ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 8"])
def test_what_may_be_said_only_once_is(bridge: Bridge, line: str) -> None:
    assert ask(bridge, handshake(path(), {}, more=f"{line}\r\n")).status in {400, 426}


@pytest.mark.parametrize("version", ["", "0", "8", "12", "14", "013", "x", "13, 8", "-13"])
def test_another_version_is_refused(bridge: Bridge, version: str) -> None:
    answer = ask(bridge, handshake(path(), {"Sec-WebSocket-Version": version}))
    # Which one would do is told by test_differences.
    assert answer.status in {400, 426}


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "BREW"])
def test_another_method_is_no_handshake(bridge: Bridge, method: str) -> None:
    answer = ask(bridge, handshake(path(), {}).replace(b"GET", method.encode()))
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    "more", ["X-Long: " + "x" * size + "\r\n" for size in (9_000, 30_000, 70_000)] + ["X-Many: x\r\n" * 300]
)
def test_a_head_that_is_too_large_is_refused_and_the_connection_ends(bridge: Bridge, more: str) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(), {}, more=more))
        peer.ended()
        # Nothing at all was heard when the server hung up with some of it unread.
        assert not peer.data or peer.answer.status in {400, 431}


def test_http_1_0_cannot_upgrade(bridge: Bridge) -> None:
    assert ask(bridge, handshake(path(), {}).replace(b"HTTP/1.1", b"HTTP/1.0")).status in {400, 403, 404, 426}


def test_a_head_may_come_byte_by_byte(bridge: Bridge) -> None:
    with Peer(bridge.port) as peer:
        peer.piecemeal(handshake(path(), {"Sec-WebSocket-Protocol": V2}))
        assert peer.answer.status == 101
        peer.lives()


def test_a_peer_that_sends_before_the_answer_gets_no_wrong_answer(bridge: Bridge) -> None:
    # RFC 6455, 4.1: a client waits for the answer before it says more. What is said earlier may be lost, but whole.
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(), {"Sec-WebSocket-Protocol": V2}) + beat(1) + frame(PING, b"early"))
        assert peer.answer.status == 101
        peer.lives(2)
        assert (peer.acked, peer.pongs) in [([1, 2], [b"early"]), ([2], [])]


def test_the_last_slash_may_be_left_out(bridge: Bridge) -> None:
    for address in ("/ws/app/slash", "/ws/app/slash/"):
        with Peer(bridge.port) as peer:
            peer.say(handshake(address, {}))
            peer.welcomed()
            assert peer.messages[0]["connection_uuid"] == "slash"


def test_a_uid_may_be_hangul(bridge: Bridge) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(HANGUL), {}))
        peer.welcomed()
        assert peer.messages[0]["connection_uuid"] == "싸비스"
        assert bridge.trigger("싸비스")["success"]
        peer.rung()


@pytest.mark.parametrize("address", ["/ws/app/%00/", "/ws/app/%0A/", "/ws/app/%7F/", f"/ws/app/{'u' * 129}/"])
def test_a_uid_that_is_none_is_told_why(bridge: Bridge, address: str) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(address, {}))
        assert peer.answer.status == 101
        assert peer.closed() == 4504
        assert peer.messages == []


def test_the_same_client_takes_the_place_of_its_older_socket(bridge: Bridge) -> None:
    uid = unique("user")
    with Peer(bridge.port) as old, Peer(bridge.port) as new, Peer(bridge.port) as other:
        for peer, name in ((old, "phone"), (other, "desk%20top"), (new, "phone")):
            peer.say(handshake(path(uid, f"?client={name}"), {"Sec-WebSocket-Protocol": V2}))
            peer.welcomed()
        assert old.closed() == 4502
        new.lives()
        other.lives()


@pytest.mark.parametrize("query", ["?client=", "?client=" + "c" * 65])
def test_a_client_name_that_is_none_is_told_why(bridge: Bridge, query: str) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(query=query), {}))
        assert peer.closed() == 4504


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "null", "x"])
def test_pages_of_another_origin_are_refused(bridge: Bridge, origin: str) -> None:
    assert ask(bridge, handshake(path(), {"Origin": origin})).status == 403


@pytest.mark.parametrize("name", [HOST, "localhost", "[::1]", "192.168.0.7"])
def test_our_own_page_is_let_in(bridge: Bridge, name: str) -> None:
    host = f"{name}:{bridge.port}"
    assert ask(bridge, handshake(path(), {"Host": host, "Origin": f"http://{host}"})).status == 101


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "a b", ""])
def test_a_call_by_a_foreign_host_name_is_refused(bridge: Bridge, host: str) -> None:
    # DNS rebinding: a foreign page's own name leads to us, so its origin looks like ours.
    assert ask(bridge, handshake(path(), {"Host": host, "Origin": f"http://{host}"})).status in {400, 403}


@pytest.mark.parametrize("address", ["/", "/ws/", "/ws/app/", "/ws/app//", "/ws/app/a/b/", "/livez", "/metrics", "*"])
def test_there_is_no_socket_elsewhere(bridge: Bridge, address: str) -> None:
    assert ask(bridge, handshake(address, {})).status in {400, 403, 404}


@pytest.mark.parametrize("offered", ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-any"])
def test_no_extension_is_accepted(bridge: Bridge, offered: str) -> None:
    with Peer(bridge.port) as peer:
        peer.say(handshake(path(), {"Sec-WebSocket-Extensions": offered}))
        peer.welcomed()
        assert peer.answer.values("sec-websocket-extensions") == []
        peer.say(frame(TEXT, heartbeat(1), reserved=4))
        assert peer.ended() == 1002


def test_a_refused_client_can_try_again(bridge: Bridge) -> None:
    ask(bridge, handshake(path(), {"Sec-WebSocket-Key": "x"}))
    with App(bridge.port) as app:
        app.lives()
