from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.push.answers import MAX_REASON, hint, reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "BQYAAAAq%2b7xZ"
PATH = f"/w/?token={TOKEN}"


@pytest.mark.parametrize(
    ("body", "windows", "said"),
    [
        (b'{"reason":"BadJwtToken"}', None, "BadJwtToken"),
        (b'{"code":401,"errno":109,"error":"Unauthorized","message":"Request did not validate"}', None,
         "Request did not validate"),
        (b'{"error":{"code":429,"message":"Quota exceeded"}}', None, "Quota exceeded"),
        (b"<HTML><HEAD><TITLE>Forbidden</TITLE><style>a{}</style></HEAD>\n<BODY>not\tfor you</BODY>", None,
         "Forbidden not for you"),
        (b"", "Ttl value conflicts with X-WNS-Cache-Policy.", "Ttl value conflicts with X-WNS-Cache-Policy."),
        (b"", None, ""),
        (b"\xff\xfe\x00", None, "\ufffd\ufffd"),
        (b"[" * 5000, None, "..."),
        (b'["a", "list"]', None, '["a", "list"]'),
        (b'{"reason": 7}', None, '{"reason": 7}'),
        (b"one\nline\x1b[31m", None, "one line [31m"),
        ("싸비스".encode(), None, "싸비스"),
    ],
)  # fmt: skip
def test_the_reason_is_what_the_service_says_on_one_line(body: bytes, windows: str | None, said: str) -> None:
    assert reason(body, windows, (PATH,)) == said


@pytest.mark.parametrize(
    "echo",
    [
        f"no such channel {TOKEN}",
        "no such channel BQYAAAAq+7xZ",
        f"https://wns2.notify.windows.com{PATH} is not there",
        "signed by " + "x" * 29,
    ],
)
def test_a_service_that_repeats_the_endpoint_brings_it_into_no_log(echo: str) -> None:
    said = reason(echo.encode(), None, (PATH,))
    assert "BQYAAAA" not in said
    assert "xxx" not in said
    assert "..." in said


@given(st.text(max_size=3000), st.text(alphabet="abcdef0123456789", min_size=6, max_size=40))
def test_whatever_a_service_says_the_log_gets_one_short_line_without_the_secret(said: str, secret: str) -> None:
    told = reason(f"{said} {secret} {said}".encode(), None, (f"/push/{secret}",))
    assert len(told) <= MAX_REASON + 3
    assert told.isprintable()
    assert f" {secret} " not in told


@pytest.mark.parametrize(
    ("status", "said", "off_s", "told"),
    [
        (403, "BadJwtToken", 0, "push.contact"),
        (403, "the VAPID credentials do not correspond", 0, "push.key_file"),
        (400, "VapidPkHashMismatch", 0, "push.key_file"),
        (401, "", 0, "push.key_file"),
        (403, "BadJwtToken", 3600, "clock"),
        (401, "", -3600, "clock"),
        (413, "", 0, "smaller"),
        (400, "", 3600, None),
        (503, "", 0, None),
    ],
)
def test_what_an_operator_can_do_is_said(status: int, said: str, off_s: float, told: str | None) -> None:
    advice = hint(status, said, answered=NOW + timedelta(seconds=off_s), now=NOW)
    assert advice is None if told is None else told in str(advice)
    assert hint(503, said="", answered=None, now=NOW) is None
