from pathlib import Path

import pytest

from broker.provisioning import certs, kit
from broker.provisioning.kit import BridgeAccess, BrokerAccess
from contract.errors import SettingsError
from infra.settings.loader import load

P = "sarvis/v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.make_authority(tmp_path / "certs")
    return tmp_path


def door(folder: Path, username: str, *, certificate: bool = False) -> BrokerAccess:
    pair = certs.issue_client(folder / "certs", username) if certificate else None
    password = None if certificate else "secret"
    return BrokerAccess(
        "mqtts://box:8883", username, P, folder / "certs" / "ca.crt", password=password, certificate=pair
    )


def test_a_devices_kit_is_its_settings_wherever_it_is_moved(folder: Path) -> None:
    kit.write_device_kit(folder / "kit", door(folder, "jetson-1"), uid='싸비스 "1" \\ x')
    moved = folder / "elsewhere"
    (folder / "kit").rename(moved)
    settings = load(moved / "sarvis.toml")
    assert (settings.edge.device_id, settings.edge.uid) == ("jetson-1", '싸비스 "1" \\ x')
    assert (settings.mqtt.url, settings.mqtt.username, settings.mqtt.prefix) == ("mqtts://box:8883", "jetson-1", P)
    assert settings.mqtt.ca_file == moved / "ca.crt"
    assert settings.mqtt.password_file == moved / "password"
    assert (moved / "password").read_text() == "secret\n"
    assert (moved / "password").stat().st_mode & 0o777 == 0o600
    assert "secret" not in (moved / "sarvis.toml").read_text()


def test_a_kit_with_a_certificate_has_no_password(folder: Path) -> None:
    kit.write_device_kit(folder / "kit", door(folder, "jetson-1"))
    kit.write_device_kit(folder / "kit", door(folder, "jetson-1", certificate=True))
    settings = load(folder / "kit" / "sarvis.toml")
    assert settings.mqtt.password_file is None
    assert settings.edge.uid is None
    assert settings.mqtt.cert_file == folder / "kit" / "client.crt"
    assert (folder / "kit" / "client.key").stat().st_mode & 0o777 == 0o600
    assert not (folder / "kit" / "password").exists()
    assert certs.describe(folder / "kit" / "client.crt").subject == "jetson-1"
    kit.write_device_kit(folder / "kit", door(folder, "jetson-1"))
    assert not (folder / "kit" / "client.key").exists()


def test_a_bridges_kit_requires_credentials(folder: Path) -> None:
    https = BridgeAccess("https://box:8000", "0.0.0.0", certs.issue_server(folder / "certs", ["box"]))
    bridge = door(folder, "bridge.bridge-2")
    kit.write_bridge_kit(folder / "kit", bridge, https, broker_dir=Path(".."))
    settings = load(folder / "kit" / "sarvis.toml")
    assert settings.auth.mode == "required"
    assert settings.bridge.instance == "bridge-2"
    assert settings.bridge.tls_cert == folder / "kit" / "bridge.crt"
    assert settings.broker.dir.resolve() == folder
    assert (folder / "kit" / "bridge.key").stat().st_mode & 0o777 == 0o600
    assert settings.auth.key_file == folder / "kit" / "signing.keys"
    assert (settings.operator.url, settings.operator.ca_file) == ("https://box:8000", folder / "kit" / "ca.crt")


def test_an_operators_kit_has_the_defaults_of_mosquitto_sub(folder: Path) -> None:
    kit.write_operator_kit(folder / "kit", door(folder, "operator.ann"))
    options = (folder / "kit" / "mosquitto_sub").read_text().splitlines()
    assert options == ["-h box", "-p 8883", "--cafile ca.crt", "-u operator.ann", "-P secret"]
    assert (folder / "kit" / "mosquitto_sub").stat().st_mode & 0o777 == 0o600
    kit.write_operator_kit(folder / "kit", door(folder, "operator.ann", certificate=True))
    options = (folder / "kit" / "mosquitto_sub").read_text().splitlines()
    assert options[3:] == ["--cert client.crt", "--key client.key"]
    command = kit.watch_command(folder / "a b", "it's/v1")
    assert "secret" not in command
    assert "a b'" in command


def test_a_client_proves_itself_in_one_way(folder: Path) -> None:
    nobody = BrokerAccess("mqtts://box:8883", "jetson-1", P, folder / "certs" / "ca.crt")
    with pytest.raises(SettingsError, match="either a password or a certificate"):
        kit.write_device_kit(folder / "kit", nobody)


def test_a_missing_file_is_told_by_its_name(folder: Path) -> None:
    (folder / "certs" / "ca.crt").unlink()
    with pytest.raises(SettingsError, match=r"ca\.crt does not exist"):
        kit.write_device_kit(folder / "kit", door(folder, "jetson-1"))


def test_what_toml_cannot_hold_as_it_is_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        kit.toml({"mqtt": {"prefix": 'a"\\\x7f\tb', "username": None}, "log": {"level": None}})
    )
    assert load(tmp_path / "x.toml").mqtt.prefix == 'a"\\\x7f\tb'
    assert "[log]" not in (tmp_path / "x.toml").read_text()
