"""Tickets by which devices fetch models over HTTP: JWT, signed with the key that signs apps' tokens.

A device identifies itself at the broker only; so a ticket goes to it over its own topic, which no
other device may read.
"""

from collections.abc import Sequence

from bridge.auth.principals import Principal
from bridge.auth.tokens import ALGORITHM, LEEWAY_S, MAX_TOKEN, SigningKey, TokenError

AUDIENCE = "sarvis-models"
"""In each ticket, and in no token of an app."""
VALID_S = 3600.0


def ticket(key: SigningKey, device_id: str, *, now: float) -> str:
    """A ticket of this device; `now` is Unix time."""
    import jwt  # noqa: PLC0415 - as in tokens.py

    claims = {"device": device_id, "aud": AUDIENCE, "exp": int(now + VALID_S)}
    return jwt.encode(claims, key.secret, ALGORITHM, headers={"kid": key.key_id})


def holder(text: str, keys: Sequence[SigningKey], *, now: float) -> Principal:
    """The device whose ticket this is; raises TokenError. `now` is Unix time."""
    import jwt  # noqa: PLC0415

    if len(text) > MAX_TOKEN:
        raise TokenError("the ticket is too long")
    options = {"require": ["exp", "device", "aud"], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    for key in keys:
        try:
            claims = jwt.decode(text, key.secret, [ALGORITHM], options=options, audience=AUDIENCE)  # type: ignore[arg-type]
            device_id, expires_at = claims["device"], float(claims["exp"])
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenError(f"the ticket is not valid: {type(error).__name__}") from None
        if not isinstance(device_id, str) or not now < expires_at + LEEWAY_S:
            raise TokenError("the ticket has expired")
        return Principal("device", device_id, expires_at=expires_at)
    raise TokenError("no key of this bridge has signed the ticket")
