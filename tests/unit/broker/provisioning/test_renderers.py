from dataclasses import replace
from pathlib import Path

import pytest

from broker.access.users import User
from broker.provisioning import mosquitto, nats
from broker.provisioning.plan import Cluster, Plan, nodes_of
from contract.errors import SettingsError

P = "sarvis/v1"
PLAN = Plan(
    folder=Path("/etc/broker"),
    listen="0.0.0.0",
    port=8883,
    server_cert=Path("/etc/broker/certs/server.crt"),
    server_key=Path("/etc/broker/certs/server.key"),
)
WITH_CERTIFICATES = replace(PLAN, client_ca=Path("/etc/broker/certs/ca.crt"))
USERS = {
    "jetson-1": User(pbkdf2="$7$hash", bcrypt="$2b$hash"),
    "bridge.b1": User(pbkdf2="$7$other", bcrypt="$2b$other"),
    "operator.ann": User(),
}


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_mosquitto_asks_everybody_for_tls_and_a_password() -> None:
    said = lines(mosquitto.config(PLAN))
    assert {"allow_anonymous false", "tls_version tlsv1.2", "use_username_as_clientid true", "autosave_interval 5",
            "persistence true", "set_tcp_nodelay true", "listener 8883 0.0.0.0",
            "password_file /etc/broker/mosquitto.passwords"} <= set(said)  # fmt: skip
    assert len([line for line in said if line.startswith("listener")]) == 1
    assert not [line for line in said if line.startswith(("require_certificate", "cafile", "user "))]


def test_mosquitto_takes_the_user_from_the_certificate() -> None:
    said = lines(mosquitto.config(WITH_CERTIFICATES))
    assert {"require_certificate true", "use_identity_as_username true", "cafile /etc/broker/certs/ca.crt"} <= set(said)


def test_mosquitto_has_a_second_door_on_loopback_only() -> None:
    said = lines(mosquitto.config(replace(PLAN, local_port=1883, owner="mosquitto")))
    assert [line for line in said if line.startswith("listener")] == [
        "listener 8883 0.0.0.0",
        "listener 1883 127.0.0.1",
    ]
    # What follows a listener belongs to it: operators on this machine choose their own client ids.
    assert "use_username_as_clientid true" not in said[said.index("listener 1883 127.0.0.1") :]
    assert "user mosquitto" in said


def test_mosquitto_leaves_client_ids_free_where_only_operators_come_in() -> None:
    for plan in (PLAN, WITH_CERTIFICATES):
        said = lines(mosquitto.config(replace(plan, operator_port=8983)))
        place = said.index("listener 8983 0.0.0.0")
        devices, operators = said[:place], said[place:]
        assert {"per_listener_settings true", "use_username_as_clientid true",
                "password_file /etc/broker/mosquitto.passwords"} <= set(devices)  # fmt: skip
        assert {"allow_anonymous false", "password_file /etc/broker/mosquitto.operators.passwords",
                "acl_file /etc/broker/mosquitto.acl", "tls_version tlsv1.2"} <= set(operators)  # fmt: skip
        assert not [line for line in operators if line.startswith("use_")]
        assert ("require_certificate true" in operators) is (plan is WITH_CERTIFICATES)
    known = {"operator.ann": User(pbkdf2="$7$ann"), "bridge.b1": User(pbkdf2="$7$b"), "jetson-1": User(pbkdf2="$7$j")}
    assert mosquitto.operators(known) == "operator.ann:$7$ann\n"


def test_mosquitto_knows_the_passwords_of_those_who_have_one() -> None:
    assert lines(mosquitto.passwords(USERS)) == ["bridge.b1:$7$other", "jetson-1:$7$hash"]


def test_mosquitto_gives_rights_to_named_users_only() -> None:
    said = lines(mosquitto.acl(USERS, P))
    assert [line for line in said if not line.startswith(("user ", "topic write ", "topic read ")) and line] == []
    assert said[said.index("user operator.ann") :] == [
        "user operator.ann",
        "topic write homeassistant/status",
        f"topic read {P}/#",
        "topic read homeassistant/#",
    ]
    own = said[said.index("user jetson-1") : said.index("user operator.ann")]
    assert f"topic write {P}/devices/jetson-1/wake" in own
    assert f"topic read {P}/devices/jetson-1/logout" in own
    assert not [line for line in own if "+" in line and "bridges" not in line]
    assert said[0] == "user bridge.b1"


def test_no_topic_stands_before_the_first_user_where_it_would_be_everybodys() -> None:
    assert mosquitto.acl({}, P) == ""
    assert mosquitto.acl(USERS, P).startswith("user ")


def test_nats_is_reached_by_mqtt_with_tls_only() -> None:
    said = nats.config(PLAN)
    assert 'listen: "127.0.0.1:-1"' in said
    assert 'listen: "0.0.0.0:8883"' in said
    assert 'ack_wait: "5s"' in said
    assert 'min_version: "1.2"' in said
    assert "default_max_consumers: -1" in said
    assert "verify" not in said
    assert "verify_and_map: true" in nats.config(WITH_CERTIFICATES)
    assert 'listen: "[::]:8883"' in nats.config(replace(PLAN, listen="::"))


def test_nats_rights_are_subjects() -> None:
    said = nats.users(USERS, P, client_certificates=False)
    assert '"sarvis.v1.devices.jetson-1.wake"' in said
    assert '"sarvis.v1.bridges.*.status", "$MQTT.sub.>"' in said
    assert '"sarvis.v1.devices.*.logout"' in said
    assert "/" not in said.replace("$2b$", "")
    assert said.count('allowed_connection_types: ["MQTT"]') == 2


def test_an_operator_on_nats_may_publish_only_that_home_assistant_runs() -> None:
    said = nats.users({"operator.ann": User(bcrypt="$2b$x")}, P, client_certificates=False)
    assert 'publish: { allow: ["homeassistant.status"] }' in said
    assert 'allow: ["sarvis.v1", "sarvis.v1.>", "homeassistant", "homeassistant.>", "$MQTT.sub.>"]' in said


def test_nats_has_no_user_without_a_password_unless_certificates_decide() -> None:
    """A user without one would have the empty password there."""
    assert "operator.ann" not in nats.users(USERS, P, client_certificates=False)
    with_certificates = nats.users(USERS, P, client_certificates=True)
    assert "operator.ann" in with_certificates
    assert "password" not in with_certificates


@pytest.mark.parametrize("prefix", ["a.b", "a b", "a\tb", "a*", "a>", "$SYS", 'a"b', "a\\b", "a//b", "/a", "a\nb"])
def test_a_prefix_that_nats_cannot_carry_is_refused(prefix: str) -> None:
    assert not nats.can_carry(prefix)
    with pytest.raises(SettingsError, match="NATS"):
        nats.users(USERS, prefix, client_certificates=False)


@pytest.mark.parametrize("prefix", ["sarvis", "sarvis/v1", "싸비스/v1", "a-b_c"])
def test_other_prefixes_nats_can_carry(prefix: str) -> None:
    assert nats.can_carry(prefix)


def test_no_setting_begins_a_line_of_its_own() -> None:
    with pytest.raises(SettingsError, match="line end"):
        mosquitto.acl(USERS, "a\nuser x")
    with pytest.raises(SettingsError, match="line end"):
        mosquitto.config(replace(PLAN, listen="0.0.0.0\nallow_anonymous true"))
    with pytest.raises(SettingsError, match="line end"):
        nats.config(replace(PLAN, folder=Path("/etc/a\nb")))


def test_filters_become_subjects() -> None:
    assert nats.subjects("a/+/b") == ["a.*.b"]
    assert nats.subjects("a/#") == ["a", "a.>"]


def test_a_node_of_a_nats_cluster_names_all_nodes_and_asks_for_their_certificate() -> None:
    folder = PLAN.folder
    nodes = nodes_of(["n1.home", "n2.home", "n3.home"], 3, 8883, 6222)
    pair = (folder / "routes" / "node.crt", folder / "routes" / "node.key", folder / "routes" / "ca.crt")
    said = nats.config(replace(PLAN, cluster=Cluster(nodes[1], nodes, *pair)))
    assert {
        'server_name: "sarvis-2"',
        'pid_file: "/etc/broker/broker-2.pid"',
        '  store_dir: "/etc/broker/data/2"',
        '  name: "sarvis"',
        '  listen: "0.0.0.0:6222"',
        '  routes: ["nats-route://n1.home:6222", "nats-route://n2.home:6222", "nats-route://n3.home:6222"]',
        '    ca_file: "/etc/broker/routes/ca.crt"',
    } <= set(lines(said))
    alone = nats.config(PLAN)
    assert "cluster" not in alone
    assert {'server_name: "sarvis"', '  store_dir: "/etc/broker/data"'} <= set(lines(alone))


def test_nodes_on_one_machine_differ_by_their_ports() -> None:
    for hosts in (["box"], ["box", "box", "box"]):
        assert [(node.host, node.port, node.route_port) for node in nodes_of(hosts, 3, 8883, 6222)] == [
            ("box", 8883, 6222),
            ("box", 8884, 6223),
            ("box", 8885, 6224),
        ]
    assert [(node.host, node.port) for node in nodes_of(["a", "b", "c"], 3, 1, 2)] == [("a", 1), ("b", 1), ("c", 1)]
    with pytest.raises(SettingsError, match="--host 3 times"):
        nodes_of(["a", "b"], 3, 8883, 6222)
