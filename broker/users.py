"""The users of every broker, in one file."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker import files, passwords
from broker.acl import role_of
from contract.errors import SettingsError
from contract.messages import LEGACY_DEVICE

NAME = "users.json"

# A user that nobody has: whoever asks cannot tell by the clock whether a name is known.
_NOBODY = passwords.pbkdf2(passwords.new_password())


class User(BaseModel):
    """One user: with the hashes of a password, or without any when only a client certificate lets it in.

    Attributes:
        certificate: the alternative name in its certificate when that is not the user's; another one for each key, as
            NATS knows no list of revoked certificates.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pbkdf2: str | None = None
    bcrypt: str | None = None
    certificate: str | None = None

    @classmethod
    def with_password(cls, password: str) -> "User":
        """A user whom this password lets in."""
        return cls(pbkdf2=passwords.pbkdf2(password), bcrypt=passwords.bcrypted(password))


class _File(BaseModel):
    version: Literal[1] = 1
    users: dict[str, User] = {}


Users = dict[str, User]


def check_username(username: str) -> None:
    """Raises SettingsError when no user can have this name."""
    if username == LEGACY_DEVICE:
        raise SettingsError(f"{LEGACY_DEVICE} is reserved for triggers over HTTP; choose another name")
    if role_of(username) is None:
        raise SettingsError(
            f"{username!r} is no user name: a device's is its id (1 to 64 letters, digits, _ and -), "
            "a bridge's bridge.INSTANCE, an operator's operator.NAME"
        )


def verify(users: Users, username: str | None, password: str | None) -> bool:
    """Whether a password lets this user in; takes as long for a user who does not exist."""
    user = users.get(username or "")
    known = user is not None and user.pbkdf2 is not None
    stored = user.pbkdf2 if user is not None and user.pbkdf2 is not None else _NOBODY
    return passwords.matches(password or "", stored) and known and password is not None


def load(folder: Path) -> Users:
    """The users in a folder, none when there is no file; raises SettingsError when it is damaged."""
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        users = _File.model_validate_json(files.read(path)).users
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged; restore it from a back-up, or delete it and add all users anew"
        ) from None
    for username in users:
        check_username(username)
    return users


def save(folder: Path, users: Users) -> None:
    """Write the file as a whole."""
    files.write(folder / NAME, _File(users=dict(sorted(users.items()))).model_dump_json(indent=1) + "\n")
