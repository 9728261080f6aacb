import pytest

from infra.log_limit import LogLimit
from infra.origins import Origin, host_of, origin_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://App.example", Origin("https", "app.example", 443)),
        ("https://app.example.:443/", Origin("https", "app.example", 443)),
        ("http://[2001:DB8:0::1]:8080", Origin("http", "2001:db8::1", 8080)),
        ("https://bücher.example", Origin("https", "xn--bcher-kva.example", 443)),
        ("WSS://hub.home", Origin("wss", "hub.home", 443)),
        ("capacitor://localhost", Origin("capacitor", "localhost", None)),
        ("app://.", Origin("app", "", None)),
        ("chrome-extension://abcdef", Origin("chrome-extension", "abcdef", None)),
        ("file://", Origin("file", "", None)),
        ("null", Origin("null", "", None)),
        ("app.example", None),
        ("https://", None),
        ("https://a@b", None),
        ("https://[::1", None),
        ("https://a:99999", None),
        ("https://a b", None),
        ("https:app.example", None),
        ("*", None),
        ("", None),
    ],
)
def test_an_origin_has_one_form(text: str, found: Origin | None) -> None:
    assert origin_of(text) == found


def test_a_host_has_a_name_and_perhaps_a_port() -> None:
    assert host_of("Hub.Home.:8000") == ("hub.home", 8000)
    assert host_of("[::1]") == ("::1", None)
    assert host_of("hub:") == ("hub", None)
    assert host_of("a/b") is None


def test_the_same_is_told_once_a_minute_and_only_so_many_different_ones() -> None:
    rarely = LogLimit(60.0, most=2)
    assert rarely.is_due("a", 0.0)
    assert not rarely.is_due("a", 59.0)
    assert rarely.is_due("b", 30.0)
    assert not rarely.is_due("c", 31.0)
    assert rarely.is_due("c", 60.0)
    assert not rarely.is_due("a", 61.0), "b and c were told"
    assert rarely.is_due("a", 90.0)
