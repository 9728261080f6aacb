import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.provisioning import certs
from broker.provisioning.certs_cli import app
from broker.provisioning.configure import ConfigRequest, configure
from broker.provisioning.renewal import renew
from contract.errors import SettingsError
from tests.support.ports import free_port

P = "sarvis/v1"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    out = tmp_path / "hub"
    configure(ConfigRequest(kind="mosquitto", out=out, hosts=("localhost", "hub.example"), prefix=P, port=free_port()))
    return out


def serial(path: Path) -> int:
    return certs.load_certificate(path).serial_number


@pytest.mark.parametrize("named", ["hub", "hub/certs"])
def test_one_command_renews_what_broker_and_bridge_serve(hub: Path, named: str) -> None:
    before = serial(hub / "certs" / "server.crt")
    done = CliRunner().invoke(app, ["server", "--out", str(hub.parent / named)])
    assert done.exit_code == 0, done.output
    renewed = serial(hub / "certs" / "server.crt")
    assert renewed != before
    assert serial(hub / "bridge" / "bridge.crt") == renewed
    assert certs.describe(hub / "certs" / "server.crt").names == ("localhost", "hub.example")
    assert "no broker runs on this folder; when it starts, it serves this certificate" in done.output


def test_a_name_that_a_renewal_loses_is_told(hub: Path) -> None:
    done = CliRunner().invoke(app, ["server", "localhost", "--out", str(hub / "certs")])
    assert "it is no longer made for hub.example" in done.output
    assert "localhost:" not in done.output
    assert certs.describe(hub / "bridge" / "bridge.crt").names == ("localhost",)


def test_a_set_up_with_fewer_names_tells_which_are_lost(hub: Path) -> None:
    made = configure(ConfigRequest(kind="mosquitto", out=hub, hosts=("localhost",), prefix=P, port=free_port()))
    assert made.lost_names == ("hub.example",)


def test_a_new_key_reaches_the_bridge_too(hub: Path) -> None:
    (hub / "certs" / "server.key").unlink()
    assert renew(hub).copies == (hub / "bridge" / "bridge.crt",)
    assert (hub / "bridge" / "bridge.key").read_bytes() == (hub / "certs" / "server.key").read_bytes()


def test_a_foreign_certificate_of_the_bridge_is_left_alone(hub: Path, tmp_path: Path) -> None:
    certs.make_authority(tmp_path / "other")
    foreign = certs.issue_server(tmp_path / "other", ["localhost"])
    shutil.copy(foreign.cert, hub / "bridge" / "bridge.crt")
    shutil.copy(foreign.key, hub / "bridge" / "bridge.key")
    done = CliRunner().invoke(app, ["server", "--out", str(hub)])
    assert "it has a key of its own and was left as it is" in done.output
    assert serial(hub / "bridge" / "bridge.crt") == serial(foreign.cert)


def test_a_certificate_signed_elsewhere_is_handed_on(tmp_path: Path) -> None:
    elsewhere, own = tmp_path / "elsewhere", tmp_path / "own"
    certs.make_authority(elsewhere)
    own.mkdir()
    for name in ("ca.crt", "server.crt", "server.key"):
        if name != "ca.crt":
            certs.issue_server(elsewhere, ["localhost"])
        shutil.copy(elsewhere / name, own / name)
    hub = tmp_path / "hub"
    configure(ConfigRequest(kind="mosquitto", out=hub, hosts=("localhost",), prefix=P, port=free_port(), certs=own))
    shutil.copy(certs.issue_server(elsewhere, ["localhost"]).cert, own / "server.crt")
    done = renew(hub)
    assert (done.signed, done.copies) == (False, (hub / "bridge" / "bridge.crt",))
    assert serial(hub / "bridge" / "bridge.crt") == serial(own / "server.crt")
    with pytest.raises(SettingsError, match=r"no ca\.key to sign with"):
        renew(hub, ["localhost"])


def test_the_first_certificate_of_a_folder_needs_a_name(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    with pytest.raises(SettingsError, match="name the server"):
        renew(tmp_path)
