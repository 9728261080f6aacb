"""The folder of a broker: its users, and what each broker product reads about them."""

import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from broker import description, files, mosquitto, nats, passwords, users
from broker.description import Description
from broker.plan import PID_FILE
from broker.users import Users
from contract.errors import SettingsError
from contract.places import kept_at_home

Reload = Literal["reloaded", "live", "no_broker", "not_permitted"]
"""Was the running broker told; `live`: the embedded one reads the users by itself."""

PROGRAMS = {"mosquitto", "nats-server"}


class BrokerFolder:
    """Adds and removes users; every change is written for all broker products at once."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = kept_at_home(folder, "broker.dir")
        self.prefix = prefix

    def add(self, username: str) -> str:
        """Let a user in with a new password, which is returned and kept nowhere; an older one is invalid."""
        users.check_username(username)
        password = passwords.new_password()
        with self._edit() as known:
            known[username] = users.User.with_password(password)
        return password

    def add_certificate_user(self, username: str) -> None:
        """Let a user in who shows a certificate with this name; an older password is invalid."""
        users.check_username(username)
        with self._edit() as known:
            known[username] = users.User()

    def remove(self, username: str) -> bool:
        """Let a user in no more; False when there was none."""
        with self._edit() as known:
            return known.pop(username, None) is not None

    def users(self) -> list[str]:
        """All user names, sorted."""
        return sorted(users.load(self.folder))

    def verify(self, username: str, password: str) -> bool:
        """Whether this password lets this user in."""
        return users.verify(users.load(self.folder), username, password)

    def render(self) -> None:
        """Write anew what the brokers read."""
        with self._edit():
            pass

    def reload(self) -> Reload:
        """Tell the broker that runs on this folder to read its users again."""
        told = self.describe()
        if told is not None and told.kind == "embedded":
            return "live"
        return _hang_up(self.folder / PID_FILE)

    def describe(self) -> Description | None:
        """What `sarvis broker config` wrote about the broker; None when it was never run here."""
        return description.load(self.folder)

    def owner(self) -> str | None:
        """The system's user to whom the folder belongs, and as whom its broker should run."""
        try:
            return pwd.getpwuid(self.folder.stat().st_uid).pw_name
        except (KeyError, FileNotFoundError):
            return None

    @contextmanager
    def _edit(self) -> Iterator[Users]:
        """The users to change in place; written when the block ends well, and nobody else writes meanwhile."""
        told = self.describe()
        if told is not None and told.prefix != self.prefix:
            raise SettingsError(
                f"mqtt.prefix is {self.prefix!r}, but the broker in {self.folder} was configured for {told.prefix!r}; "
                "use the same, or run sarvis broker config again"
            )
        files.make_folder(self.folder)
        with files.locked(self.folder):
            known = users.load(self.folder)
            yield known
            rendered = self._rendered(known, told)
            users.save(self.folder, known)
            for name, text in rendered.items():
                files.write(self.folder / name, text)

    def _rendered(self, known: Users, told: Description | None) -> dict[str, str]:
        certified = told is not None and told.client_certificates
        texts = {
            mosquitto.PASSWORDS: "" if certified else mosquitto.passwords(known),
            mosquitto.OPERATORS: mosquitto.operators(known),
            mosquitto.ACL: mosquitto.acl(known, self.prefix),
        }
        # A prefix that only NATS cannot carry is no fault while the broker is another.
        if nats.can_carry(self.prefix) or (told is not None and told.kind == "nats"):
            texts[nats.USERS] = nats.users(known, self.prefix, client_certificates=certified)
        return texts


def _hang_up(pid_file: Path) -> Reload:
    """SIGHUP to the process in a pid file, if it is a broker: an old file must hit nobody else."""
    try:
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return "no_broker"
    try:
        # The descriptor holds the process: what is named below is what gets the signal, or nobody does.
        if Path(f"/proc/{pid}/comm").read_text().strip() not in PROGRAMS:
            return "no_broker"
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
    except PermissionError:
        return "not_permitted"
    except OSError:
        return "no_broker"
    finally:
        os.close(descriptor)
    return "reloaded"
