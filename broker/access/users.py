"""The users of every broker, in one file."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from broker import files
from broker.access import passwords
from broker.access.acl import role_of
from contract.errors import SettingsError
from contract.messages import LEGACY_DEVICE
from infra.readable import is_there

NAME = "users.json"

# A hash for unknown users, so that the time of an answer does not reveal whether a name exists.
_NOBODY = passwords.pbkdf2(passwords.new_password())


class User(BaseModel):
    """One user, with the hashes of a password, or without if only a client certificate admits it.

    Attributes:
    certificate: the alternative name in its certificate if it differs from the user name; a new one for each key,
    because NATS has no revocation list.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    """Fields that a person has added to a user are kept."""

    pbkdf2: str | None = None
    bcrypt: str | None = None
    certificate: str | None = None

    @classmethod
    def with_password(cls, password: str) -> "User":
        """A user with this password."""
        return cls(pbkdf2=passwords.pbkdf2(password), bcrypt=passwords.bcrypted(password))


class _File(BaseModel):
    version: Literal[1] = 1
    users: dict[str, User] = {}


Users = dict[str, User]


def check_username(username: str) -> None:
    """Raises SettingsError if a user cannot have this name."""
    if username == LEGACY_DEVICE:
        raise SettingsError(f"{LEGACY_DEVICE} is reserved for triggers over HTTP; choose another name")
    if role_of(username) is None:
        raise SettingsError(
            f"{username!r} is not a user name: a device's is its id (1 to 64 letters, digits, _ and -), "
            "a bridge's bridge.INSTANCE, an operator's operator.NAME"
        )


def verify(users: Users, username: str | None, password: str | None) -> bool:
    """Whether a password admits this user; takes as long for an unknown user."""
    user = users.get(username or "")
    known = user is not None and user.pbkdf2 is not None
    stored = user.pbkdf2 if user is not None and user.pbkdf2 is not None else _NOBODY
    return passwords.matches(password or "", stored) and known and password is not None


def load(folder: Path) -> Users:
    """The users in a folder, none if the file is missing; raises SettingsError if it is damaged."""
    path = folder / NAME
    if not is_there(path):
        return {}
    try:
        users = _File.model_validate_json(files.read(path)).users
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged; restore it from a back-up, or delete it and add all users again"
        ) from None
    for username in users:
        check_username(username)
    return users


def save(folder: Path, users: Users) -> None:
    """Write the file as a whole."""
    files.write(folder / NAME, _File(users=dict(sorted(users.items()))).model_dump_json(indent=1) + "\n")
