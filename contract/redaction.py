"""Known secrets are taken out of every text that is told: log lines, error lines, tracebacks, events.

Libraries quote what they were given: a header that cannot be sent, an address with a password in it. So a text that
this project did not write itself passes `redact` or `describe` before anybody reads it.
"""

import base64
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MAX_KNOWN = 200
"""A fleet of simulated apps has a token for each; those that were used last are known."""

MIN_CHARACTERS = 4
"""What is shorter occurs everywhere by chance; to hide it would also tell it."""

ANYWHERE_CHARACTERS = 8
"""A shorter secret is hidden only where it stands alone: the password `sarvis` must not take the name out of a log."""

STAND_IN = "***"

_lock = threading.Lock()
_known: OrderedDict[str, tuple[re.Pattern[str] | str, ...]] = OrderedDict()


def remember(secret: str) -> None:
    """From now on `redact` takes this secret out, however it is written."""
    with _lock:
        if secret in _known:
            _known.move_to_end(secret)
            return
        _known[secret] = _forms(secret)
        if len(_known) > MAX_KNOWN:
            _known.popitem(last=False)


def remember_url(url: str) -> None:
    """The same with the password and the values of the query of an address."""
    for secret in _of_url(url):
        remember(secret)


def forget() -> None:
    """No secret is known any more."""
    with _lock:
        _known.clear()


def redact(text: str, *more: str) -> str:
    """The text without any known secret, and without `more`, each as it is or as an encoding of it."""
    with _lock:
        known = list(_known.values())
    for forms in (*(_forms(secret) for secret in more), *known):
        for form in forms:
            if isinstance(form, re.Pattern):
                text = form.sub(STAND_IN, text)
            elif form in text:
                text = text.replace(form, STAND_IN)
    return text


def describe(error: BaseException, *more: str) -> str:
    """What an exception of a library says, without secrets; its type when it says nothing."""
    return redact(str(error), *more) or type(error).__name__


def describe_request(error: BaseException, url: str) -> str:
    """`describe` for a request to an address that may hold a secret."""
    return describe(error, *_of_url(url))


def shown_url(url: str) -> str:
    """An address as it may be shown: without a user and password, and without the values of its query."""
    address, mark, query = without_userinfo(url).partition("?")
    if not mark:
        return address
    return f"{address}?{re.sub(r'=[^&#]*', '=' + STAND_IN, query) if '=' in query else STAND_IN}"


def without_userinfo(url: str) -> str:
    """An address without a user and password. What is no address, perhaps because of its password, is hidden whole."""
    scheme, mark, _ = url.partition("://")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"{scheme}{mark}{STAND_IN}" if mark else STAND_IN
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc=f"{STAND_IN}@{parts.netloc.rpartition('@')[2]}").geturl()


def _of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    userinfo, mark, _ = parts.netloc.rpartition("@")
    if mark:
        user, colon, password = userinfo.partition(":")
        yield unquote(password if colon else user)
    for _, value in parse_qsl(parts.query):
        yield value


def _forms(secret: str) -> tuple[re.Pattern[str] | str, ...]:
    if len(secret) < MIN_CHARACTERS:
        return ()
    raw = secret.encode(errors="surrogatepass")
    quoted = {repr(secret)[1:-1], repr(raw)[2:-1]}
    texts = {secret, quote(raw, safe=""), quote(raw), quote_plus(raw), *quoted}
    # A traceback in a JSON line holds a quotation in a quotation.
    texts |= {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in list(texts) for ascii_only in (True, False)}
    texts |= {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in list(texts)}
    if len(secret) < ANYWHERE_CHARACTERS:
        alone = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
        return (re.compile(rf"(?<![^\W_])(?:{alone})(?![^\W_])"),)
    return tuple(sorted(texts | set(_base64_of(raw)), key=len, reverse=True))


def _base64_of(raw: bytes) -> Iterator[str]:
    """What base64 makes of it wherever it stands in what is encoded, as in `user:password`."""
    for before in range(3):
        padded = bytes(before) + raw
        whole = slice((before * 8 + 5) // 6, len(padded) * 8 // 6)
        yield base64.b64encode(padded).decode()[whole]
        yield base64.urlsafe_b64encode(padded).decode()[whole]
