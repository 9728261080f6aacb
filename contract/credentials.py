"""What can be a password, an API key or a token; what an editor leaves around one does not belong to it."""

import re
import unicodedata
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, SecretStr

Kind: TypeAlias = Literal["password", "key", "token"]
"""`password`: MQTT carries any text; `key`: stands in an HTTP header; `token`: also in a list of subprotocols."""

_AROUND = " \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\u200b"
"""Blanks, ends of lines and byte order marks: nobody sees them, and nobody means them."""
_LINE_ENDS = frozenset("\n\r\v\f\x85\u2028\u2029")
_NO_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
_KEY = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def clean(text: str, kind: Kind) -> str:
    """The secret itself, without what stands around it; raises ValueError that says what is wrong, never the text."""
    secret = text.strip(_AROUND)
    if not secret:
        raise ValueError("is empty; write the secret into it")
    if not _LINE_ENDS.isdisjoint(secret):
        raise ValueError("holds more than one line; write the secret alone into it")
    if "\ufeff" in secret or any(unicodedata.category(letter) in _NO_TEXT for letter in secret):
        raise ValueError("holds a control character, which no secret has; write it anew")
    if kind == "password":
        return secret
    if any(letter.isspace() for letter in secret):
        raise ValueError(f"holds a blank between other characters; write the {kind} alone into it, without `Bearer`")
    if not (_KEY if kind == "key" else _TOKEN).fullmatch(secret):
        raise ValueError(f"holds characters that no {kind} has; copy it anew")
    return secret


def _cleaned(kind: Kind) -> AfterValidator:
    return AfterValidator(lambda value: SecretStr(clean(value.get_secret_value(), kind)))


Password = Annotated[SecretStr, _cleaned("password")]
Key = Annotated[SecretStr, _cleaned("key")]
Token = Annotated[SecretStr, _cleaned("token")]
