import pytest
from pydantic import ValidationError

from bridge.push.contact import doubt_about
from infra.settings.bridge import PushSettings


@pytest.mark.parametrize(
    "contact",
    [
        "mailto:operator@sarvis.dev",
        "mailto:operator+push@mail.sarvis.co.kr",
        "https://sarvis.dev",
        "https://hub.tailnet-1234.ts.net",
        "https://xn--9n2bp8q.kr",
        "mailto:me@examples.com",
    ],
)
def test_a_contact_that_can_be_looked_up_is_in_no_doubt(contact: str) -> None:
    assert PushSettings(enabled=True, contact=contact).contact == contact
    assert doubt_about(contact) is None


@pytest.mark.parametrize(
    "contact",
    [
        "mailto:you@example.com",
        "mailto:you@mail.EXAMPLE.org",
        "https://example.net",
        "mailto:root@localhost.localdomain",
        "mailto:me@jetson.local",
        "mailto:me@hub.home",
        "https://hub.lan",
        "https://hub.home.arpa",
        "https://hub.internal",
        "https://sarvis.test",
        "https://sarvis.invalid",
        "mailto:me@192.168.0.2",
        "https://10.0.0.1",
        "mailto:me@1.2.3",
        "https://-.dev",
        f"https://{'a' * 64}.dev",
        "https://" + "a." * 130 + "dev",
        "mailto:싸비스@sarvis.dev",
    ],
)
def test_a_contact_that_nobody_can_resolve_is_doubted_and_taken(contact: str) -> None:
    assert PushSettings(enabled=True, contact=contact).contact == contact
    assert doubt_about(contact)


@pytest.mark.parametrize(
    "contact",
    [
        "",
        "me@sarvis.dev",
        "mailto:me",
        "mailto:me@localhost",
        "mailto:me@sarvis.dev?subject=x",
        "mailto: me@sarvis.dev",
        "mailto:<me@sarvis.dev>",
        "mailto:me@sarvis.dev\n",
        "https://localhost",
        "https://sarvis.dev/contact",
        "https://sarvis.dev:8443",
        "http://sarvis.dev",
        "https://[::1]",
        "tel:+8210",
    ],
)
def test_what_is_no_contact_is_refused_with_what_to_write(contact: str) -> None:
    with pytest.raises(ValidationError, match="write mailto:NAME@HOST or https://HOST"):
        PushSettings(enabled=True, contact=contact)
