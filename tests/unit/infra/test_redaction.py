import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import redaction
from infra.redaction import describe, describe_request, redact, remember, shown_url, without_userinfo

SECRET = 'pa"ss\\wörd/+&싸'
SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=30).filter(
    # What has an asterisk is not told by the three that stand in for it.
    lambda text: "*" not in text and text.strip() == text
)


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        repr(SECRET),
        repr(SECRET.encode()),
        repr(bytearray(b"authorization: Bearer " + SECRET.encode())),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(repr(SECRET.encode())),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"u:{SECRET}\n".encode()).decode(),
    ],
)
def test_a_known_secret_is_taken_out_however_it_is_written(written: str) -> None:
    inside = "".join(letter for letter in written if letter.isalnum())
    assert redact(f"it says {written} and goes on") == f"it says {written} and goes on"
    remember(SECRET)
    told = redact(f"it says {written} and goes on")
    assert redaction.STAND_IN in told
    assert told.startswith("it says ")
    assert told.endswith(" and goes on")
    assert inside not in told


@given(secret=SECRETS, before=st.binary(max_size=4), after=st.binary(max_size=4))
def test_no_encoding_of_it_comes_through(secret: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    for text in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""), encoded):
        assert redaction.STAND_IN in redact(f"<{text}>", secret)


def test_a_short_secret_is_taken_out_where_it_stands_alone() -> None:
    remember("sarvis")
    assert redact("Bearer sarvis, user:sarvis@host, sarvis/v1") == "Bearer ***, user:***@host, ***/v1"
    assert redact("the sarvises of sarvis2") == "the sarvises of sarvis2"
    remember("abc")
    assert redact("abc") == "abc"


def test_only_so_many_are_known_and_the_last_used_stay() -> None:
    for number in range(redaction.MAX_KNOWN + 1):
        remember("the first secret")
        remember(f"secret number {number:09}")
    assert redact("the first secret") == "***"
    assert redact("secret number 000000000") == "secret number 000000000"
    assert len(redaction._known) == redaction.MAX_KNOWN


def test_an_exception_is_told_without_secrets_or_by_its_type() -> None:
    assert describe(ValueError("bad header b'Bearer hunter2-hunter2'"), "hunter2-hunter2") == "bad header b'Bearer ***'"
    assert describe(TimeoutError()) == "TimeoutError"
    error = ValueError("Basic dTpodW50ZXIyLWh1bnRlcjI= for http://u:hunter2-hunter2@h/?key=s3cret-of-query")
    told = describe_request(error, "http://u:hunter2-hunter2@h/?key=s3cret-of-query")
    assert "hunter2" not in told
    assert "s3cret" not in told
    assert "dTpodW50ZXIy" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:5000/api/auth/logout", "http://h:5000/api/auth/logout"),
        ("http://user:hunter2@h:5000/x", "http://***@h:5000/x"),
        ("http://hunter2@h/", "http://***@h/"),
        ("http://h/x?key=hunter2&mode=hunter2", "http://h/x?key=***&mode=***"),
        ("http://h/x?hunter2", "http://h/x?***"),
        ("http://user:hunter2/x@h", "http://***"),
        ("http://user:hun#ter2@h", "http://***"),
        ("http://[hunter2", "http://***"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret_in_it(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "hunter2" not in without_userinfo(url.partition("?")[0])
