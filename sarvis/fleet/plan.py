"""What a fleet is made of: who is in it, by which credentials, how much it does."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.auth.tokens import SETTING, KeyFile, issue, read
from broker.kit import SETTINGS
from contract import mqtt
from contract.clock import Clock
from contract.errors import SettingsError
from contract.messages import DEVICE_ID_PATTERN
from contract.places import at_home
from contract.secrets import read_secret
from contract.settings import Settings, load

TOKEN_VALID_S = 30 * 24 * 3600.0

Token = Callable[[str], str | None]
"""A user's token, asked before each connection; may raise SettingsError."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fleet does.

    Attributes:
        rate_per_s: wakes over the whole fleet.
        run_s: for how long wakes are made; None until a signal.
        connect_per_s: how many devices, each with its user's apps, begin to connect.
        patience_s: for so long nobody may have a session; then, for so long after the last one, some may not.
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
        settings: the device's own: its name, its user, its way to the broker.
    """

    device_id: str
    uid: str
    settings: Settings


def members(settings: Settings, prefix: str, devices: int, *, kits: Path | None, mqtt_url: str | None) -> list[Member]:
    """Everybody in the fleet; raises SettingsError when a name or a kit is none.

    Args:
        settings: of the whole fleet.
        prefix: names are PREFIX-1, PREFIX-2 and so on.
        devices: how many.
        kits: a folder with a kit for each device, named like it; without it all have the MQTT settings of `settings`.
        mqtt_url: instead of the address in a kit.
    """
    if not re.fullmatch(DEVICE_ID_PATTERN, f"{prefix}-{devices}"):
        raise SettingsError(
            f"--prefix {prefix!r}: {prefix}-{devices} is no device id, which is 1 to 64 of A-Z a-z 0-9 _ -"
        )
    names = [f"{prefix}-{number}" for number in range(1, devices + 1)]
    if kits is None:
        mqtt.check(settings.mqtt)
        return [_member(settings, settings, name, name) for name in names]
    return [_of_kit(settings, kits, name, mqtt_url) for name in names]


def tokens_of(settings: Settings, folder: Path | None, clock: Clock) -> Token:
    """Where apps have their tokens from: a folder, or the key that signs them; none when the bridge asks for none.

    Raises SettingsError when the bridge asks for them and the key cannot be read.
    """
    if folder is not None:
        return lambda uid: read_secret(folder / f"{uid}.token", "--token-dir", "token")
    if settings.auth.mode == "open":
        return lambda _uid: None
    path = at_home(settings.auth.key_file, SETTING)
    read(path)  # `open` would make a new key, which no bridge knows
    keys = KeyFile(path, clock)
    keys.open()
    return lambda uid: issue(keys.keys[0], uid, now=time.time(), valid_s=TOKEN_VALID_S)


def _of_kit(settings: Settings, kits: Path, name: str, mqtt_url: str | None) -> Member:
    path = kits / name / SETTINGS
    if not path.is_file():
        raise SettingsError(
            f"--kits: there is no {path}; make it with: sarvis device add {name} --uid {name} --kit {kits / name}"
        )
    kit = load(path, mqtt__url=mqtt_url)
    if kit.edge.device_id not in {None, name}:
        raise SettingsError(f"--kits: {path} is for the device {kit.edge.device_id}")
    mqtt.check(kit.mqtt)
    return _member(settings, kit, name, kit.edge.uid or name)


def _member(settings: Settings, own: Settings, device_id: str, uid: str) -> Member:
    edge = settings.edge.model_copy(update={"device_id": device_id, "uid": uid})
    return Member(device_id, uid, settings.model_copy(update={"edge": edge, "mqtt": own.mqtt}))
