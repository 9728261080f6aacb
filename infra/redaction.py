"""Removes known secrets from every text: log lines, error lines, tracebacks, events.

Libraries quote their input: a header that cannot be sent, an address with a password. Every text that this project did
not write itself therefore passes `redact` or `describe` first.
"""

import base64
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MAX_KNOWN = 200
"""How many secrets are remembered, the most recently used ones: each app of a simulated fleet has a token."""

MIN_CHARACTERS = 4
"""Shorter texts occur everywhere by chance; hiding them would reveal them."""

ANYWHERE_CHARACTERS = 8
"""A shorter secret is hidden only as a whole word: the password `sarvis` must not remove the name from a log."""

STAND_IN = "***"

_lock = threading.Lock()
_known: OrderedDict[str, tuple[re.Pattern[str] | str, ...]] = OrderedDict()


def remember(secret: str) -> None:
    """From now on `redact` removes this secret in every encoding."""
    with _lock:
        if secret in _known:
            _known.move_to_end(secret)
            return
        _known[secret] = _forms(secret)
        if len(_known) > MAX_KNOWN:
            _known.popitem(last=False)


def remember_url(url: str) -> None:
    """The same for the password and the query values of an address."""
    for secret in _of_url(url):
        remember(secret)


def forget() -> None:
    """Forget all secrets."""
    with _lock:
        _known.clear()


def redact(text: str, *more: str) -> str:
    """The text without the known secrets and `more`, plain or encoded."""
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
    """The message of a library's exception, without secrets; its type if the message is empty."""
    return redact(str(error), *more) or type(error).__name__


def describe_request(error: BaseException, url: str) -> str:
    """`describe` for a request to an address that may hold a secret."""
    return describe(error, *_of_url(url))


def shown_url(url: str) -> str:
    """An address fit for display: without user, password and query values."""
    address, mark, query = without_userinfo(url).partition("?")
    if not mark:
        return address
    return f"{address}?{re.sub(r'=[^&#]*', '=' + STAND_IN, query) if '=' in query else STAND_IN}"


def without_userinfo(url: str) -> str:
    """An address without user and password. A text that cannot be parsed is hidden whole."""
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
    # A traceback in a JSON line has nested quotation marks.
    texts |= {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in list(texts) for ascii_only in (True, False)}
    texts |= {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in list(texts)}
    if len(secret) < ANYWHERE_CHARACTERS:
        alone = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
        return (re.compile(rf"(?<![^\W_])(?:{alone})(?![^\W_])"),)
    return tuple(sorted(texts | set(_base64_of(raw)), key=len, reverse=True))


def _base64_of(raw: bytes) -> Iterator[str]:
    """The base64 text of a secret at any offset, as in `user:password`."""
    for before in range(3):
        padded = bytes(before) + raw
        whole = slice((before * 8 + 5) // 6, len(padded) * 8 // 6)
        yield base64.b64encode(padded).decode()[whole]
        yield base64.urlsafe_b64encode(padded).decode()[whole]
