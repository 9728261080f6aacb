"""The users of a check: given credentials, or users that are created and removed again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from broker.access.acl import bridge_user, client_id_of
from broker.check.peer import Peer
from broker.check.target import Credential, Device, Target
from broker.provisioning.certs import common_name_of
from broker.provisioning.configure import add_user, remove_user
from broker.provisioning.description import Description
from broker.provisioning.folder import BrokerFolder
from broker.provisioning.kit import BrokerAccess
from contract.errors import SettingsError, StartError
from infra import tls
from infra.secrets import secret_of
from infra.settings.broker import MqttSettings

KNOWN_WITHIN_S = 10.0


def given(mqtt: MqttSettings, device: tuple[str, Path] | None, prefix: str | None) -> Target:
    """With the credentials of the settings as the bridge.

    Also as the device, unless that has its own user and password file.
    """
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
        others=_others(mqtt),
        # Do not disturb other clients' messages if possible: users have rights to exactly the prefix.
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


def check_free(mqtt: MqttSettings, device_user: str | None) -> None:
    """Raises SettingsError for users whose client ids a running bridge or device may use.

    The check would end that connection, and delete its queued messages.
    """
    shown = common_name_of(mqtt.cert_file) if mqtt.cert_file is not None else None
    for name in (mqtt.username, shown, device_user):
        if name is not None and client_id_of(name) is not None:
            raise SettingsError(
                f"the check did not start: it connects as the user {name}, and would end the connection of a running "
                "bridge or device of that user, and delete its queued messages. Stop those, wherever they run, and "
                "add --stopped; or check with users that are created for it: sarvis broker check --config "
                "HUB/bridge/sarvis.toml, beside the broker"
            )


@contextmanager
def made(broker: BrokerFolder, told: Description) -> Iterator[Target]:
    """As a bridge and three devices that exist in a broker's folder as long as the block runs."""
    token = token_hex(4)
    names = (bridge_user(f"check-{token}"), f"check-{token}", f"mute-{token}", f"late-{token}")
    try:
        bridge, one, other, third = (_credential(add_user(broker, told, name)) for name in names)
        reload = broker.reload()
        if reload not in ("live", "reloaded"):
            raise StartError(
                f"the broker in {broker.folder} cannot load the users of this check "
                f"({str(reload).replace('_', ' ')}); start it, or run this as its user"
            )
        address = MqttSettings(url=told.url)
        target = Target(
            host=address.host,
            port=address.port,
            others=_others(address),
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


def _others(mqtt: MqttSettings) -> tuple[tuple[str, int], ...]:
    return tuple((node.host, node.port) for node in mqtt.nodes[1:])


def _credential(door: BrokerAccess) -> Credential:
    pair = door.certificate
    cert, key = (pair.cert, pair.key) if pair is not None else (None, None)
    return Credential(door.username, door.password, tls.client_context(door.ca_file, cert, key, who="mqtt"))


def _wait_until_known(target: Target, newest: Credential) -> None:
    """No broker reports when it has read its users, so the last one is tried, at each node."""
    ends, known = time.monotonic() + KNOWN_WITHIN_S, 0
    while time.monotonic() < ends:
        with Peer(target, newest, "late") as peer:
            known = known + 1 if peer.welcome else 0
        if known == len(target.nodes):
            return
        if not known:
            time.sleep(0.1)
