"""The folder that `sarvis broker config nats --cluster 3` writes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from broker.provisioning import certs, relocation
from broker.provisioning.configure import ConfigRequest, Made, configure
from broker.provisioning.folder import BrokerFolder
from broker.provisioning.renewal import renew
from contract.errors import SettingsError
from infra.settings.loader import load

P = "sarvis/v1"
HOSTS = ("n1.home", "n2.home", "n3.home")
URL = ",".join(f"mqtts://{host}:8883" for host in HOSTS)


def asked(tmp_path: Path) -> ConfigRequest:
    return ConfigRequest(kind="nats", out=tmp_path / "broker", hosts=HOSTS, prefix=P, cluster=3)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return configure(asked(tmp_path))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_has_three_configurations_one_certificate_for_all_and_kits_with_all_addresses(
    made: Made, tmp_path: Path
) -> None:
    out = tmp_path / "broker"
    assert made.configs == tuple(out / f"nats-{number}.conf" for number in (1, 2, 3))
    assert certs.describe(out / "certs" / "server.crt").names == HOSTS
    for kit in (made.bridge_kit, made.operator_kit):
        assert load(kit / "sarvis.toml").mqtt.url == URL
    assert "-h n1.home\n-p 8883\n" in (made.operator_kit / "mosquitto_sub").read_text()
    assert BrokerFolder(out, P).users() == ["bridge.bridge-1", "operator.admin"]


def test_nodes_recognise_each_other_by_an_authority_that_signs_for_no_client(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "broker"
    node = out / "routes" / "node.crt"
    told = certs.describe(node)
    assert (told.kind, told.names) == ("node of a cluster", HOSTS)
    assert certs.signed_by(node, out / "routes" / "ca.crt")
    assert not certs.signed_by(node, out / "certs" / "ca.crt")
    for config in made.configs:
        routes = config.read_text().partition("cluster {")[2]
        assert re.findall(r'ca_file: "(.*)"', routes) == [str(out / "routes" / "ca.crt")]


def test_again_keeps_users_keys_and_kits(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "broker"
    before = everything(out)
    assert configure(asked(tmp_path)) == made
    assert everything(out) == before


def test_a_renewal_renews_the_certificate_of_the_nodes_too(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "broker"
    node = out / "routes" / "node.crt"
    old = certs.issue_node(out / "routes", HOSTS, days=5)
    before = (certs.describe(node).until, old.key.read_bytes())
    renew(out)
    assert certs.describe(node).until > before[0]
    assert (out / "routes" / "node.key").read_bytes() == before[1]
    assert len(made.configs) == 3


def test_a_moved_folder_is_named_by_all_configurations(made: Made, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    made.config.parent.rename(moved)
    assert relocation.is_elsewhere(moved)
    changed = relocation.relocate(moved)
    assert [path.name for path in changed] == ["nats-1.conf", "nats-2.conf", "nats-3.conf"]
    assert not relocation.is_elsewhere(moved)
    assert str(tmp_path / "broker") not in (moved / "nats-2.conf").read_text()


def test_one_broker_alone_does_not_become_a_cluster_in_its_folder_nor_back(made: Made, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="folder of a cluster"):
        configure(replace(asked(tmp_path), cluster=None))
    alone = replace(asked(tmp_path), out=tmp_path / "alone", cluster=None)
    configure(alone)
    with pytest.raises(SettingsError, match="one broker alone"):
        configure(replace(alone, cluster=3))
    assert len(made.configs) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["mosquitto", "--cluster", "3", "--host", "a"], "--cluster is for nats"),
        (["nats", "--cluster", "3", "--host", "a", "--host", "b"], "--host 3 times"),
        (["nats", "--cluster", "2", "--host", "a"], "--cluster"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(options: list[str], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["config", *options, "--out", str(tmp_path / "it")])
    assert done.exit_code != 0
    assert told in f"{done.output}{done.exception}"
    assert not (tmp_path / "it" / "nats-1.conf").exists()


def test_the_command_names_how_each_node_is_started(tmp_path: Path) -> None:
    hosts = [option for host in HOSTS for option in ("--host", host)]
    done = CliRunner().invoke(app, ["config", "nats", "--cluster", "3", *hosts, "--out", str(tmp_path / "it")])
    assert done.exit_code == 0, done.output
    started = [line for line in done.output.splitlines() if line.startswith("  start node ")]
    assert [line.rpartition("/")[2] for line in started] == ["nats-1.conf", "nats-2.conf", "nats-3.conf"]
