from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from broker.provisioning import certs
from broker.provisioning.configure import ConfigRequest, add_user, configure
from broker.provisioning.description import Kind
from broker.provisioning.folder import BrokerFolder
from contract.errors import SettingsError
from infra.settings.loader import load

P = "sarvis/v1"
CONFIGS: dict[Kind, str] = {"mosquitto": "mosquitto.conf", "nats": "nats.conf", "embedded": "sarvis.toml"}
KINDS = list(CONFIGS)


def wish(tmp_path: Path, kind: Kind = "mosquitto") -> ConfigRequest:
    return ConfigRequest(kind=kind, out=tmp_path / "broker", hosts=("localhost", "127.0.0.1"), prefix=P)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_has_all_that_a_broker_needs(kind: Kind, tmp_path: Path) -> None:
    made = configure(wish(tmp_path, kind))
    out = tmp_path / "broker"
    assert made.config == out / CONFIGS[kind]
    assert BrokerFolder(out, P).users() == ["bridge.bridge-1", "operator.admin"]
    assert certs.describe(out / "certs" / "server.crt").names == ("localhost", "127.0.0.1")
    bridge = load(made.bridge_kit / "sarvis.toml")
    assert bridge.mqtt.url == "mqtts://localhost:8883"
    assert bridge.broker.dir.resolve() == out
    assert load(made.operator_kit / "sarvis.toml").mqtt.username == "operator.admin"
    told = BrokerFolder(out, P).describe()
    assert told is not None
    assert (told.kind, told.client_certificates, told.certs) == (kind, False, out / "certs")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("certificates", [False, True])
def test_again_keeps_users_keys_and_kits(kind: Kind, tmp_path: Path, *, certificates: bool) -> None:
    asked = replace(wish(tmp_path, kind), client_certificates=certificates)
    configure(asked)
    told = BrokerFolder(asked.out, P).describe()
    assert told is not None
    add_user(BrokerFolder(asked.out, P), told, "jetson-1")
    before = everything(asked.out)
    configure(asked)
    after = everything(asked.out)
    changed = {name for name in before if before[name] != after.get(name)}
    # Certificates are renewed, keys stay.
    assert {name for name in changed if not name.endswith((".crt", "issued.txt"))} == set()
    assert before.keys() == after.keys()


def test_a_lost_or_invalid_password_of_a_kit_is_made_anew(tmp_path: Path) -> None:
    made = configure(wish(tmp_path))
    folder = BrokerFolder(tmp_path / "broker", P)
    folder.add("bridge.bridge-1")  # somebody made another password, which the kit does not know
    configure(wish(tmp_path))
    assert folder.verify("bridge.bridge-1", (made.bridge_kit / "password").read_text().strip())


def test_passwords_and_certificates_replace_one_another(tmp_path: Path) -> None:
    made = configure(wish(tmp_path))
    sure = replace(wish(tmp_path), client_certificates=True)
    configure(sure)
    assert (made.bridge_kit / "client.crt").exists()
    assert not (made.bridge_kit / "password").exists()
    assert (tmp_path / "broker" / "mosquitto.passwords").read_text() == ""
    configure(wish(tmp_path))
    assert BrokerFolder(sure.out, P).verify("bridge.bridge-1", (made.bridge_kit / "password").read_text().strip())


def test_users_are_added_in_the_way_of_the_broker(tmp_path: Path) -> None:
    for certificates in (False, True):
        asked = replace(wish(tmp_path), client_certificates=certificates)
        configure(asked)
        folder = BrokerFolder(asked.out, P)
        told = folder.describe()
        assert told is not None
        door = add_user(folder, told, "jetson-1")
        assert (door.password is None) is certificates
        assert (door.certificate is not None) is certificates
        assert "jetson-1" in folder.users()


def test_an_operators_own_server_certificate_is_used_unchanged(tmp_path: Path) -> None:
    own = tmp_path / "own"
    certs.make_authority(own)
    certs.issue_server(own, ["broker.example"])
    (own / "ca.key").unlink()
    before = everything(own)
    configure(replace(wish(tmp_path), certs=own))
    assert f"certfile {own / 'server.crt'}" in (tmp_path / "broker" / "mosquitto.conf").read_text()
    assert everything(own) == before
    with pytest.raises(SettingsError, match="--client-certificates needs"):
        configure(replace(wish(tmp_path), certs=own, client_certificates=True))
    (own / "server.key").unlink()
    with pytest.raises(SettingsError, match=r"server\.key does not exist"):
        configure(replace(wish(tmp_path), certs=own))


def test_certificates_of_a_folder_with_an_authority_are_made_there(tmp_path: Path) -> None:
    certs.make_authority(tmp_path / "house")
    configure(replace(wish(tmp_path), certs=tmp_path / "house"))
    assert (tmp_path / "house" / "server.crt").exists()
    assert not (tmp_path / "broker" / "certs").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "nats", "prefix": "a.b"}, "NATS"),
        ({"kind": "nats", "local_port": 1883}, "--local-port"),
        ({"kind": "embedded", "operator_port": 8983}, "--operator-port is for mosquitto"),
        ({"operator_port": 8883}, "must differ"),
        ({"operator_port": 1883, "local_port": 1883}, "must differ"),
        ({"local_port": 1883, "client_certificates": True}, "exclude each other"),
        ({"instance": "a b"}, "not a user name"),
        ({"hosts": ("a b",)}, "neither a host name"),
        ({"hosts": ()}, "--host"),
    ],
)
def test_what_does_not_fit_is_told(change: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=words):
        configure(replace(wish(tmp_path), **change))  # type: ignore[arg-type]
    assert not (tmp_path / "broker" / "users.json").exists()


def test_the_embedded_brokers_settings_load_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = configure(replace(wish(tmp_path, "embedded"), out=Path("broker"), client_certificates=True))
    monkeypatch.chdir("/")
    settings = load(made.config)
    assert (settings.broker.host, settings.broker.port) == ("0.0.0.0", 8883)
    assert settings.auth.mode == "required"
    assert settings.broker.dir.resolve() == tmp_path / "broker"
    assert settings.broker.tls_client_ca == tmp_path / "broker" / "certs" / "clients.pem"


# --- the command ---


def test_the_command_tells_what_to_type_next_and_no_secret(tmp_path: Path) -> None:
    out = tmp_path / "broker"
    done = CliRunner().invoke(app, ["config", "mosquitto", "--out", str(out), "--host", "localhost"])
    assert done.exit_code == 0, done.output
    assert f"mosquitto -c {out / 'mosquitto.conf'}" in done.output
    assert f"sarvis bridge --config {out / 'bridge' / 'sarvis.toml'}" in done.output
    assert "sarvis device add ID" in done.output
    assert "mosquitto_sub -t 'sarvis/v1/#' -v" in done.output
    for kit in ("bridge", "operator"):
        assert (out / kit / "password").read_text().strip() not in done.output
    assert "listener 1883 127.0.0.1" in (out / "mosquitto.conf").read_text()


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        ([], ["8883", "8983", "1883"]),
        (["--local-port", "0"], ["8883", "8983"]),
        (["--local-port", "1999", "--port", "9000"], ["9000", "9100", "1999"]),
        (["--client-certificates"], ["8883", "8983"]),
        (["--operator-port", "8884", "--local-port", "0"], ["8883", "8884"]),
        (["--operator-port", "0", "--local-port", "0"], ["8883"]),
    ],
)
def test_mosquitto_has_listeners_for_operators_and_on_loopback_unless_omitted(
    options: list[str], ports: list[str], tmp_path: Path
) -> None:
    line = ["config", "mosquitto", "--out", str(tmp_path), "--host", "localhost", *options]
    assert CliRunner().invoke(app, line).exit_code == 0
    told = (tmp_path / "mosquitto.conf").read_text().splitlines()
    assert [text.split()[1] for text in told if text.startswith("listener ")] == ports
    url = load(tmp_path / "operator" / "sarvis.toml").mqtt.url
    assert url == f"mqtts://localhost:{ports[0] if '0' in options[:2] and 'operator' in options[0] else ports[1]}"
    assert load(tmp_path / "bridge" / "sarvis.toml").mqtt.url == f"mqtts://localhost:{ports[0]}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("certificates", [False, True])
def test_an_operator_proves_itself_as_the_broker_asks(kind: Kind, tmp_path: Path, *, certificates: bool) -> None:
    operator_port = 8983 if kind == "mosquitto" else None
    made = configure(replace(wish(tmp_path, kind), client_certificates=certificates, operator_port=operator_port))
    settings = load(made.operator_kit / "sarvis.toml").mqtt
    assert (settings.cert_file is not None) is certificates
    assert (settings.password_file is not None) is (kind == "mosquitto" or not certificates)
    options = (made.operator_kit / "mosquitto_sub").read_text()
    assert ("--cert " in options) is certificates
    assert ("-P " in options) is (kind == "mosquitto" or not certificates)
    out = tmp_path / "broker"
    assert (out / "mosquitto.operators.passwords").read_text().count("\n") == (settings.password_file is not None)


def test_a_port_for_operators_that_cannot_be_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["config", "mosquitto", "--out", str(tmp_path), "--host", "x", "--port", "65500"])
    assert isinstance(done.exception, SettingsError)
    assert "--operator-port" in str(done.exception)


def test_the_command_wants_a_product_a_folder_and_a_host(tmp_path: Path) -> None:
    for line in (["config", "rabbitmq", "--out", str(tmp_path), "--host", "x"], ["config", "nats", "--host", "x"],
                 ["config", "nats", "--out", str(tmp_path)]):  # fmt: skip
        assert CliRunner().invoke(app, line).exit_code == 2
