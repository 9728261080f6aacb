"""Checks the form of a password, API key or token, and removes blanks that editors leave around it."""

import re
import unicodedata
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, SecretStr

Kind: TypeAlias = Literal["password", "key", "token"]
"""`password`: any text that MQTT can carry; `key`: fits into an HTTP header; `token`: also fits into a list of
subprotocols.
"""

_AROUND = " \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\u200b"
"""Blanks, line ends and byte order marks, which are invisible in an editor and never part of a secret."""
_LINE_ENDS = frozenset("\n\r\v\f\x85\u2028\u2029")
_NO_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
_KEY = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def clean(text: str, kind: Kind) -> str:
    """The secret without surrounding blanks; raises ValueError that says what is wrong and never quotes the secret."""
    secret = text.strip(_AROUND)
    if not secret:
        raise ValueError("is empty; write the secret into it")
    if not _LINE_ENDS.isdisjoint(secret):
        raise ValueError("has more than one line; write only the secret into it")
    if "\ufeff" in secret or any(unicodedata.category(letter) in _NO_TEXT for letter in secret):
        raise ValueError("has a control character, which a secret cannot have; write it again")
    if kind == "password":
        return secret
    if any(letter.isspace() for letter in secret):
        raise ValueError(f"has a blank between other characters; write only the {kind} into it, without `Bearer`")
    if not (_KEY if kind == "key" else _TOKEN).fullmatch(secret):
        raise ValueError(f"has characters that a {kind} cannot have; copy it again")
    return secret


def _cleaned(kind: Kind) -> AfterValidator:
    return AfterValidator(lambda value: SecretStr(clean(value.get_secret_value(), kind)))


Password = Annotated[SecretStr, _cleaned("password")]
Key = Annotated[SecretStr, _cleaned("key")]
Token = Annotated[SecretStr, _cleaned("token")]
