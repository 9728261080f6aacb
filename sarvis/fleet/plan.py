"""The plan of a fleet: its members, their credentials, the rate of wakes."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.auth.tokens import SETTING, KeyFile, issue, read
from broker.provisioning.kit import SETTINGS
from contract.clock import Clock
from contract.errors import SettingsError
from contract.names import DEVICE_ID_PATTERN
from edge_node.session.state_file import in_use
from infra.mqtt import session as mqtt
from infra.places import at_home, where_at_home
from infra.readable import is_there
from infra.secrets import read_secret
from infra.settings.loader import Settings, load

TOKEN_VALID_S = 30 * 24 * 3600.0

Token = Callable[[str], str | None]
"""A user's token, called before each connection; may raise SettingsError."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run.

    Attributes:
    rate_per_s: wakes of the whole fleet.
    run_s: how long wakes are made; None until a signal.
    connect_per_s: how many devices, each with its user's apps, start to connect.
    patience_s: how long to wait for the first session; then, after the newest one, for the missing ones.
    """

    rate_per_s: float
    run_s: float | None
    apps_per_user: int
    connect_per_s: float
    patience_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class Member:
    """One device and the user whom it claims.

    Attributes:
    settings: of the device: its name, its user, its connection to the broker.
    """

    device_id: str
    uid: str
    settings: Settings


def members(settings: Settings, prefix: str, devices: int, *, kits: Path | None, mqtt_url: str | None) -> list[Member]:
    """All members of the fleet; raises SettingsError for an invalid name or kit.

    Args:
    settings: of the whole fleet.
    prefix: names are PREFIX-1, PREFIX-2 and so on.
    devices: how many.
    kits: a folder with a kit for each device, named like it; without it all have the MQTT settings of `settings`.
    mqtt_url: replaces the address in a kit.
    """
    if not re.fullmatch(DEVICE_ID_PATTERN, f"{prefix}-{devices}"):
        raise SettingsError(
            f"--prefix {prefix!r}: {prefix}-{devices} is not a device id, which is 1 to 64 of A-Z a-z 0-9 _ -"
        )
    names = [f"{prefix}-{number}" for number in range(1, devices + 1)]
    if kits is None:
        mqtt.check(settings.mqtt)
        people = [_member(settings, settings, name, name) for name in names]
    else:
        people = [_of_kit(settings, kits, name, mqtt_url) for name in names]
    for member in people:
        state_dir = where_at_home(member.settings.edge.state_dir)
        if state_dir is not None and in_use(state_dir, member.device_id):
            raise SettingsError(
                f"the edge {member.device_id} runs here, and a fleet with a device of its name would end its "
                f"connection; choose another --prefix, or stop the edge"
            )
    return people


def tokens_of(settings: Settings, folder: Path | None, clock: Clock) -> Token:
    """The source of the apps' tokens: a folder, or the key that signs them; None if the bridge requires none.

    Raises SettingsError if the bridge requires them and the key cannot be read.
    """
    if folder is not None:
        return lambda uid: read_secret(folder / f"{uid}.token", "--token-dir", "token")
    if settings.auth.mode == "open":
        return lambda _uid: None
    path = at_home(settings.auth.key_file, SETTING)
    read(path)  # `open` would create a new key, which the bridge does not have
    keys = KeyFile(path, clock)
    keys.open()
    return lambda uid: issue(keys.keys[0], uid, now=time.time(), valid_s=TOKEN_VALID_S)


def _of_kit(settings: Settings, kits: Path, name: str, mqtt_url: str | None) -> Member:
    path = kits / name / SETTINGS
    if not is_there(path):
        raise SettingsError(
            f"--kits: there is no {path}; create it with: sarvis device add {name} --uid {name} --kit {kits / name}"
        )
    kit = load(path, mqtt__url=mqtt_url)
    if kit.edge.device_id not in {None, name}:
        raise SettingsError(f"--kits: {path} is for the device {kit.edge.device_id}")
    mqtt.check(kit.mqtt)
    return _member(settings, kit, name, kit.edge.uid or name)


def _member(settings: Settings, own: Settings, device_id: str, uid: str) -> Member:
    edge = settings.edge.model_copy(update={"device_id": device_id, "uid": uid})
    return Member(device_id, uid, settings.model_copy(update={"edge": edge, "mqtt": own.mqtt}))
