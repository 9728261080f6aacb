"""`sarvis broker config` and kits, run again: nothing that a person wrote is lost, nothing foreign is replaced."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from broker.provisioning import certs, kit
from broker.provisioning.configure import ConfigRequest, add_user, configure
from broker.provisioning.description import Kind
from broker.provisioning.folder import BrokerFolder
from broker.provisioning.renewal import renew
from contract.errors import SettingsError
from infra.settings.loader import load
from tests.support import programs
from tests.support.programs import needs

P = "sarvis/v1"
CONFIGS: dict[Kind, str] = {"mosquitto": "mosquitto.conf", "nats": "nats.conf", "embedded": "sarvis.toml"}
KINDS = list(CONFIGS)
MINE = "# mine: the firewall of the cellar\n"


def wish(tmp_path: Path, kind: Kind = "mosquitto") -> ConfigRequest:
    return ConfigRequest(kind=kind, out=tmp_path / "hub", hosts=("localhost",), prefix=P)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def kept(path: Path) -> list[str]:
    return [one.read_text() for one in sorted(path.parent.glob(f"{path.name}.before-*"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("certificates", [False, True])
def test_again_without_changes_changes_nothing_and_is_silent(
    kind: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, certificates: bool
) -> None:
    asked = replace(wish(tmp_path, kind), client_certificates=certificates)
    configure(asked)
    before = state(asked.out)
    configure(asked)
    assert state(asked.out) == before
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["", "bridge/sarvis.toml", "operator/sarvis.toml", "operator/mosquitto_sub"])
def test_lines_of_a_person_stay_while_the_same_is_asked_and_are_kept_beside_when_not(
    kind: Kind, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = wish(tmp_path, kind)
    configure(asked)
    path = asked.out / (name or CONFIGS[kind])
    with path.open("a") as file:
        file.write(MINE)
    configure(asked)
    assert path.read_text().endswith(MINE)
    assert capsys.readouterr().err == ""
    configure(replace(asked, port=9883, hosts=("other.home",)))
    assert MINE not in path.read_text()
    (old,) = kept(path)
    assert old.endswith(MINE)
    told = capsys.readouterr().err
    assert f"{path} was written again" in told
    assert f"{path.name}.before-" in told


@pytest.mark.parametrize(
    "name", ["mosquitto.passwords", "mosquitto.acl", "mosquitto.operators.passwords", "nats.users.conf"]
)
@pytest.mark.parametrize("by", ["config", "add", "remove"])
def test_lines_of_a_person_in_a_file_of_users_are_kept_beside(
    name: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = configure(wish(tmp_path))
    hub = BrokerFolder(tmp_path / "hub", P)
    add_user(hub, made.description, "jetson-1")
    assert capsys.readouterr().err == ""
    path = hub.folder / name
    path.write_text(MINE + path.read_text())
    if by == "config":
        configure(wish(tmp_path))
    elif by == "add":
        add_user(hub, made.description, "jetson-2")
    else:
        hub.remove("jetson-1")
    assert MINE not in path.read_text()
    (old,) = kept(path)
    assert old.startswith(MINE)
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mosquitto", "mosquitto.conf"),
        ("mosquitto", "mosquitto.acl"),
        ("mosquitto", "mosquitto.passwords"),
        ("nats", "nats.conf"),
        ("nats", "nats.users.conf"),
        ("embedded", "sarvis.toml"),
        ("embedded", "bridge/sarvis.toml"),
        ("embedded", "bridge/ca.crt"),
        ("mosquitto", "operator/mosquitto_sub"),
        ("mosquitto", "bridge/password"),
    ],
)
@pytest.mark.parametrize("link", [False, True], ids=["a file", "a link"])
def test_what_is_foreign_is_replaced_by_a_flag_alone(
    kind: Kind, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, link: bool
) -> None:
    asked = wish(tmp_path, kind)
    path = asked.out / name
    path.parent.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("foreign\n")
    if link:
        path.symlink_to(target)
    else:
        path.write_text("foreign\n")
    before = state(asked.out)
    with pytest.raises(SettingsError, match=f"{name}.*is not replaced.*--replace"):
        configure(asked)
    assert state(asked.out) == before
    assert sorted(one.name for one in asked.out.iterdir()) == [Path(name).parts[0]], "nothing else was made"
    configure(replace(asked, replace=True))
    (old,) = kept(path)
    assert old == "foreign\n"
    assert not path.is_symlink()
    assert target.read_text() == "foreign\n"
    assert str(path) in capsys.readouterr().err


def test_a_foreign_certificate_is_not_replaced(tmp_path: Path) -> None:
    asked = wish(tmp_path)
    configure(asked)
    certs.make_authority(tmp_path / "other")
    pair = certs.issue_server(tmp_path / "other", ["localhost"])
    for path in (pair.cert, pair.key):
        shutil.copy(path, asked.out / "certs" / path.name)
    for do in (lambda: configure(asked), lambda: renew(asked.out), lambda: renew(asked.out / "certs", ["x.home"])):
        with pytest.raises(SettingsError, match=r"server.crt was not signed by the authority"):
            do()
    assert (asked.out / "certs" / "server.crt").read_bytes() == pair.cert.read_bytes()


def test_a_foreign_authority_is_not_replaced(tmp_path: Path) -> None:
    asked = wish(tmp_path)
    (asked.out / "certs").mkdir(parents=True)
    for name in ("ca.key", "ca.crt"):
        (asked.out / "certs" / name).write_text("foreign\n")
        with pytest.raises(SettingsError, match=r"certs/ca\.(key|crt)"):
            configure(asked)
        assert (asked.out / "certs" / name).read_text() == "foreign\n"


def test_a_bridges_own_certificate_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = configure(wish(tmp_path))
    certs.make_authority(tmp_path / "other")
    pair = certs.issue_server(tmp_path / "other", ["phones.home"])
    kit.write_bridge_pair(made.bridge_kit, pair)
    configure(replace(wish(tmp_path), hosts=("other.home",)))
    assert (made.bridge_kit / "bridge.crt").read_bytes() == pair.cert.read_bytes()
    assert (made.bridge_kit / "bridge.key").read_bytes() == pair.key.read_bytes()
    assert "key of its own" in capsys.readouterr().err


def test_the_kit_of_one_device_is_not_replaced_by_that_of_another(tmp_path: Path) -> None:
    made = configure(wish(tmp_path))
    hub = BrokerFolder(tmp_path / "hub", P)
    one = add_user(hub, made.description, "jetson-1")
    kit.write_device_kit(tmp_path / "kit", one)
    kit.check(tmp_path / "kit", "jetson-1")
    with pytest.raises(SettingsError, match="the kit of jetson-1"):
        kit.check(tmp_path / "kit", "jetson-2")
    with pytest.raises(SettingsError, match="is not replaced"):
        kit.check(made.config.parent / "certs", "jetson-2")  # it holds a ca.crt
    kit.check(tmp_path / "kit", "jetson-2", replace=True)
    kit.write_device_kit(tmp_path / "kit", add_user(hub, made.description, "jetson-2"))
    assert load(tmp_path / "kit" / "sarvis.toml").mqtt.username == "jetson-2"
    assert "jetson-1" in kept(tmp_path / "kit" / "sarvis.toml")[0]


def test_a_new_secret_leaves_a_kits_settings_with_what_was_added(tmp_path: Path) -> None:
    made = configure(wish(tmp_path))
    hub = BrokerFolder(tmp_path / "hub", P)
    kit.write_device_kit(tmp_path / "kit", add_user(hub, made.description, "jetson-1"), uid="alice")
    settings = tmp_path / "kit" / "sarvis.toml"
    settings.write_text(settings.read_text() + '\n[log]\nlevel = "debug"\n')
    kit.write_device_kit(tmp_path / "kit", add_user(hub, made.description, "jetson-1"), uid="alice")
    assert load(settings).log.level == "debug"
    assert hub.verify("jetson-1", (tmp_path / "kit" / "password").read_text().strip())


def test_a_folder_of_an_older_version_is_taken_over_and_what_differs_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = configure(wish(tmp_path))
    for path in (made.config, made.bridge_kit / "sarvis.toml"):
        lines = [line for line in path.read_text().splitlines() if "Sum:" not in line]
        path.write_text("\n".join(lines) + "\n")
    configure(wish(tmp_path))
    assert capsys.readouterr().err == ""
    assert "Sum:" in made.config.read_text()
    made.config.write_text("\n".join([*lines[:1], "max_connections 7"]) + "\n")
    configure(wish(tmp_path))
    assert "max_connections 7" in kept(made.config)[0]


@needs("mosquitto")
def test_mosquitto_reads_what_is_written_into_its_configuration(tmp_path: Path) -> None:
    made = configure(replace(wish(tmp_path), port=1, listen="192.0.2.1"))  # an address that no machine has
    program = programs.program("mosquitto")
    done = subprocess.run(
        [program, "-c", made.config], capture_output=True, text=True, timeout=20, check=False, env={**os.environ}
    )
    assert "Error found at" not in done.stderr, "it understood every line"
    assert "192.0.2.1" in done.stderr or "assign requested address" in done.stderr
