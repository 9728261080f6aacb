"""Who comes to the broker that is checked: with given credentials, or as users made for it and removed again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from broker.acl import bridge_user
from broker.check.peer import Peer
from broker.check.target import Credential, Device, Target
from broker.configure import add_user, remove_user
from broker.description import Description
from broker.folder import BrokerFolder
from broker.kit import Door
from contract import tls
from contract.errors import StartError
from contract.secrets import secret_of
from contract.sections.broker import MqttSettings

KNOWN_WITHIN_S = 10.0


def given(mqtt: MqttSettings, device: tuple[str, Path] | None, prefix: str | None) -> Target:
    """With what the settings say, as the bridge; as the device, too, unless it has a user and a password file."""
    token = token_hex(4)
    context = tls.client_context(mqtt.ca_file, mqtt.cert_file, mqtt.key_file, who="mqtt") if mqtt.tls else None
    password = secret_of(mqtt.password, mqtt.password_file, "mqtt.password_file")
    bridge = Credential(mqtt.username, password, context)
    one, other = Device(f"check-{token}", bridge), Device(f"mute-{token}", bridge)
    if device is not None:
        name, file = device
        one = Device(name, Credential(name, secret_of(None, file, "--device-password-file"), context))
    return Target(
        host=mqtt.host,
        port=mqtt.port,
        # Nobody's messages are disturbed where that is possible: users have rights to exactly the prefix.
        prefix=prefix or (mqtt.prefix if mqtt.username or mqtt.cert_file else f"{mqtt.prefix}/check-{token}"),
        bridge=bridge,
        device=one,
        mute=None if device is not None else other,
        late=None if device is not None else Device(f"late-{token}", bridge),
        spare_prefix=f"sarvis-check-{token}",
        rights=device is not None,
        plain=tls.client_context(mqtt.ca_file, who="mqtt") if mqtt.tls else None,
        token=token,
    )


@contextmanager
def made(broker: BrokerFolder, told: Description) -> Iterator[Target]:
    """As a bridge and three devices that the broker in a folder gets to know for as long as the block runs."""
    token = token_hex(4)
    names = (bridge_user(f"check-{token}"), f"check-{token}", f"mute-{token}", f"late-{token}")
    try:
        bridge, one, other, third = (_credential(add_user(broker, told, name)) for name in names)
        reload = broker.reload()
        if reload not in ("live", "reloaded"):
            raise StartError(
                f"the broker in {broker.folder} cannot be told of the users that check it "
                f"({str(reload).replace('_', ' ')}); start it, or run this as its user"
            )
        address = urlsplit(told.url)
        target = Target(
            host=address.hostname or "",
            port=address.port or 0,
            prefix=told.prefix,
            bridge=bridge,
            device=Device(names[1], one),
            mute=Device(names[2], other),
            late=Device(names[3], third),
            rights=True,
            plain=tls.client_context(told.ca_file, who="mqtt"),
            token=token,
        )
        _wait_until_known(target, third)
        yield target
    finally:
        for name in names:
            remove_user(broker, name)


def _credential(door: Door) -> Credential:
    pair = door.certificate
    cert, key = (pair.cert, pair.key) if pair is not None else (None, None)
    return Credential(door.username, door.password, tls.client_context(door.ca_file, cert, key, who="mqtt"))


def _wait_until_known(target: Target, newest: Credential) -> None:
    """No broker says when it has read its users; the one that was written last is tried."""
    ends = time.monotonic() + KNOWN_WITHIN_S
    while time.monotonic() < ends:
        with Peer(target, newest, "late") as peer:
            if peer.welcome:
                return
        time.sleep(0.1)
