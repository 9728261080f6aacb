import json
from pathlib import Path
from typing import Any

import pytest

from contract.errors import SettingsError
from infra.redaction import redact
from infra.settings import kinds
from infra.settings.loader import Settings, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    settings = load()
    assert (settings.mqtt.host, settings.mqtt.port) == ("127.0.0.1", 1883)
    assert (settings.bridge.host, settings.bridge.port) == ("127.0.0.1", 8000)
    assert (settings.edge.http_host, settings.edge.http_port) == ("127.0.0.1", 5000)
    assert settings.bridge.heartbeat_timeout_s == 3600


def test_arguments_beat_environment_beats_file_beats_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[bridge]\nhost = "10.0.0.1"\nport = 1\ninstance = "filed"\n')
    monkeypatch.setenv("SARVIS_BRIDGE__PORT", "2")
    monkeypatch.setenv("SARVIS_BRIDGE__HOST", "10.0.0.2")
    bridge = load(file, bridge__host="10.0.0.3").bridge
    assert (bridge.host, bridge.port, bridge.instance, bridge.drain_s) == ("10.0.0.3", 2, "filed", None)


def test_the_file_of_the_working_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "sarvis.toml").write_text("[broker]\nport = 7\n")
    assert load().broker.port == 7


def test_an_argument_that_was_not_given_changes_nothing() -> None:
    assert load(bridge__port=None).bridge.port == 8000


@pytest.mark.parametrize("name", ["SARVIS_BRIDGE__PROT", "SARVIS_NOPE", "SARVIS_NOPE__PORT", "SARVIS_BRIDGE"])
def test_an_unknown_variable_is_an_error_that_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize(
    ("text", "named"), [("[bridge]\nprot = 1\n", "bridge.prot"), ("[brigde]\nport = 1\n", "brigde")]
)
def test_an_unknown_setting_in_the_file_is_an_error_that_names_it(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "sarvis.toml").write_text(text)
    with pytest.raises(SettingsError, match=rf"unknown setting {named} .*sarvis\.toml"):
        load()


@pytest.mark.parametrize("value", ["[1", '["x"', "[" * 20_000, '{"a":' * 5000, "[" + "9" * 5000 + "]"])
def test_a_variable_that_is_no_json_where_it_must_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    innocent = tmp_path / "sarvis.toml"
    innocent.write_text('[edge]\nuid = "alice"\n')
    monkeypatch.setenv("SARVIS_EDGE__GPIO_LIGHTS", value)
    with pytest.raises(SettingsError) as refused:
        load(innocent)
    assert str(refused.value) == (
        "setting SARVIS_EDGE__GPIO_LIGHTS in the environment is not valid JSON; write it as "
        """SARVIS_EDGE__GPIO_LIGHTS='{"active": 12}'"""
    )


def test_a_file_that_is_no_toml_or_no_text_or_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    for content in (b"[bridge", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=r"bad\.toml"):
            load(file)
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mqtt__url", "http://127.0.0.1"),
        ("mqtt__url", "mqtt://"),
        ("mqtt__url", "mqtt://host:notaport"),
        ("bridge__port", 70000),
        ("edge__device_id", "with space"),
        ("edge__uid", "a/b"),
        ("edge__threshold", 1.5),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_its_setting(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name.replace("__", r"\.")):
        load(None, **{name: value})


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load(mqtt__url="mqtt://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARVIS_MQTT__PASSWORD", "hunter2")
    assert "hunter2" not in repr(load())


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().bridge.port = 1  # type: ignore[misc]


def test_a_relative_path_in_a_file_starts_at_the_files_folder(tmp_path: Path) -> None:
    file = tmp_path / "kit" / "sarvis.toml"
    file.parent.mkdir()
    file.write_text(
        '[mqtt]\nurl = "mqtts://broker"\nca_file = "ca.crt"\n[edge]\nstate_dir = "~/x"\nmodel = "/m.onnx"\n'
    )
    settings = load(file)
    assert settings.mqtt.ca_file == file.parent / "ca.crt"
    assert settings.edge.state_dir == Path("~/x")
    assert settings.edge.model == Path("/m.onnx")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mqtt__password": "a", "mqtt__password_file": "b"}, "exclude each other"),
        ({"mqtt__ca_file": "ca.crt"}, "mqtts://"),
        ({"mqtt__url": "mqtts://x", "mqtt__cert_file": "c"}, "mqtt.cert_file and mqtt.key_file belong together"),
        ({"mqtt__url": "mqtts://one,mqtt://two"}, "all addresses must begin with mqtts://, or all with mqtt://"),
        ({"mqtt__url": "mqtt://one,mqtt://one/"}, "named twice"),
        ({"mqtt__url": "mqtt://one,"}, "several with commas between them"),
        ({"mqtt__url": "mqtt://one,http://two"}, "mqtt://HOST:PORT"),
        ({"mqtt__url": ["mqtt://one", "mqtt://two"]}, 'write it as url = "mqtts://one.example:8883,mqtts://two'),
        ({"bridge__tls_cert": "c"}, "bridge.tls_cert and bridge.tls_key belong together"),
        ({"broker__tls_client_ca": "c"}, "needs broker.tls_cert"),
        ({"legacy__allow_networks": ["10.0.0.1/8"]}, "legacy.allow_networks.0"),
        ({"limits__failures": "0/minute"}, "60/minute"),
        ({"limits__failures": "many"}, "60/minute"),
        ({"auth__origins": ["https://app.example/page"]}, "without a path"),
        ({"auth__origins": ["*"]}, "is not an origin"),
        ({"auth__origins": ["null"]}, "needs auth.mode = required"),
        ({"auth__origins": ["app.example"]}, "is not an origin"),
        ({"auth__mode": "closed"}, "auth.mode"),
        ({"app__ca_file": "ca.crt"}, "wss://"),
        ({"push__enabled": True}, "push.enabled needs push.contact"),
        ({"traces__endpoint": "collector:4318"}, "is not the address of a collector"),
        ({"traces__endpoint": "ftp://collector"}, "is not the address of a collector"),
        ({"traces__endpoint": "http://collector:99999"}, "is not the address of a collector"),
        ({"traces__endpoint": "http://collector/v1/traces?key=x"}, "is not the address of a collector"),
        ({"traces__endpoint": "http://me:secret@collector"}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
        ({"traces__share": 0.0}, "traces.share"),
        ({"traces__share": 1.5}, "traces.share"),
        ({"push__contact": "me@example.com"}, "push.contact"),
        ({"push__contact": "http://example.com"}, "push.contact"),
        ({"push__contact": "mailto:nobody"}, "push.contact"),
        ({"push__services": ["https://push.example/path"]}, "is not a push service"),
        ({"push__services": ["push.example:8443"]}, "is not a push service"),
        ({"push__services": ["http://[::1]:8080"]}, "is not a push service"),
        ({"push__services": ["com"]}, "is not a push service"),
        ({"push__services": ["*.example.com"]}, "is not a push service"),
        ({"app__token": "a", "app__token_file": "b"}, "exclude each other"),
        ({"edge__http_hosts": ["http://kitchen.home"]}, r"edge\.http_hosts\.0.*only the name, as kitchen\.home"),
        ({"edge__http_hosts": ["kitchen.home:5000"]}, "only the name, as kitchen.home"),
        ({"edge__http_hosts": ["*.home"]}, "only the name, as kitchen.home"),
        ({"edge__http_hosts": ["kitchen", ""]}, r"edge\.http_hosts\.1.*is not a host name"),
        ({"edge__http_hosts": ["kitchen home"]}, "is not a host name"),
        ({"edge__http_hosts": ["a..b"]}, "is not a host name"),
        ({"bridge__hosts": ["hub.home/"]}, r"bridge\.hosts\.0.*is not a host name"),
    ],
)
def test_settings_of_doors_that_do_not_fit_together_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(**given)


def test_the_addresses_of_a_cluster_are_settings_of_one_each() -> None:
    mqtt = load(mqtt__url=" mqtts://one:1 , mqtts://[::1]/,mqtts://three", mqtt__username="me").mqtt
    assert mqtt.url == "mqtts://one:1,mqtts://[::1],mqtts://three"
    assert [(node.host, node.port, node.tls) for node in mqtt.nodes] == [
        ("one", 1, True),
        ("::1", 8883, True),
        ("three", 8883, True),
    ]
    assert {node.username for node in mqtt.nodes} == {"me"}
    alone = load().mqtt
    assert alone.nodes == (alone,)


def test_a_secret_in_a_setting_is_not_repeated_by_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARVIS_MQTT__PASSWORD", "s3cret")
    with pytest.raises(SettingsError) as refused:
        load(mqtt__password_file="b")
    assert "s3cret" not in str(refused.value)


def test_an_origin_of_any_scheme_can_be_named() -> None:
    names = ["https://app.example/", "capacitor://localhost", "ionic://localhost", "file://", "app://.", "null"]
    names += ["chrome-extension://abcdef", "wss://hub.home:8000", "http://[::1]:8080"]
    assert load(auth__mode="required", auth__origins=names).auth.origins == names


@pytest.mark.parametrize("name", ["SARVIS_MQTT__PASSWORD", "SARVIS_EDGE__API_KEY", "SARVIS_APP__TOKEN"])
def test_a_secret_in_the_environment_is_cleaned_and_judged_as_one_in_a_file(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    section, key = name.removeprefix("SARVIS_").lower().split("__")
    for given, told in ((" hunter2-hunter2\r\n", None), ("hunter2\nhunter2", "more than one line"), (" ", "is empty")):
        monkeypatch.setenv(name, given)
        if told is None:
            assert getattr(getattr(load(), section), key).get_secret_value() == "hunter2-hunter2"
            continue
        with pytest.raises(SettingsError, match=told) as refused:
            load()
        assert f"{section}.{key}" in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_after_the_settings_are_read_no_text_tells_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARVIS_MQTT__PASSWORD", "of-the-broker")
    monkeypatch.setenv("SARVIS_EDGE__BRIDGE_URL", "http://user:of%2Fa%2Fproxy@host")
    monkeypatch.setenv("SARVIS_LEGACY__LOGOUT_URL", "http://host/out?key=of-the-device")
    load()
    assert redact("of-the-broker of/a/proxy of%2Fa%2Fproxy of-the-device") == "*** *** *** ***"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mqtt__url", "mqtt://user:hunter2@host"),
        ("mqtt__url", "mqtt://user:hunter2/x@host"),
        ("mqtt__url", "mqtt://user:1/hunter2@host"),
        ("mqtt__url", "mqtt://user:hunter2#x@host"),
        ("mqtt__url", "mqtt://host:hunter2"),
        ("app__url", "ws://user:hunter2/x@host"),
        ("app__url", "ws://host?token=hunter2"),
        ("edge__bridge_url", "http://user:hunter2#x@host"),
        ("edge__bridge_url", "http://host?key=hunter2"),
        ("operator__url", "http://user:hunter2/x@host"),
        ("auth__origins", ["https://user:hunter2/x@host"]),
        ("auth__origins", ["ftp://user:hunter2@host/x"]),
        ("push__services", ["https://user:hunter2@host"]),
        ("legacy__logout_url", "ftp://user:hunter2@host"),
        ("store__url", "postgres://user:hunter2@host"),
        ("store__url", "postgresql://user:1/hunter2@host/x"),
        ("store__url", "postgresql://host/x?password=hunter2"),
    ],
)
def test_an_address_that_is_refused_is_not_repeated_for_a_password_may_be_in_it(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name.replace("__", r"\.")) as refused:
        load(None, **{name: value})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("mqtt__url", "mqtt://host:1884/", "mqtt://host:1884"),
        ("mqtt__url", "MQTTS://host//", "mqtts://host"),
        ("app__url", "wss://host/", "wss://host"),
        ("edge__bridge_url", "http://host:8000/", "http://host:8000"),
        ("operator__url", "https://host/", "https://host"),
        ("store__url", "sqlite:///ledger.db/", "sqlite:///ledger.db"),
        ("push__contact", "https://example.com/", "https://example.com"),
        ("traces__endpoint", "http://collector:4318/", "http://collector:4318/v1/traces"),
        ("traces__endpoint", "http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ("traces__endpoint", "https://example.com/otlp/v1/traces", "https://example.com/otlp/v1/traces"),
        (
            "push__services",
            ["http://127.0.0.1:80/", "a.example/"],
            ["http://127.0.0.1:80", "a.example"],
        ),
    ],
)
def test_a_slash_at_the_end_of_an_address_changes_nothing(name: str, value: object, meant: object) -> None:
    section, key = name.split("__")
    assert getattr(getattr(load(None, **{name: value}), section), key) == meant


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf[bridge]\nport = 7\n", b"[bridge]\r\nport = 7\r\n", b"\xef\xbb\xbf[bridge]\r\nport = 7\r\n"],
    ids=["byte order mark", "CRLF", "both"],
)
def test_a_file_that_an_editor_of_windows_saved_in_utf_8_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sarvis.toml").write_bytes(content)
    assert load().bridge.port == 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_another_encoding_is_told_by_the_name_of_that(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "sarvis.toml").write_bytes("[bridge]\nport = 7\n".encode(encoding))
    with pytest.raises(SettingsError, match=rf"sarvis\.toml is in {encoding[:6].upper()}, .* save it as UTF-8"):
        load()


KUBERNETES = {
    "SARVIS{0}_SERVICE_HOST": "10.0.0.1",
    "SARVIS{0}_SERVICE_PORT": "8000",
    "SARVIS{0}_SERVICE_PORT_HTTP": "8000",
    "SARVIS{0}_PORT": "tcp://10.0.0.1:8000",
    "SARVIS{0}_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "SARVIS{0}_PORT_8000_TCP_PROTO": "tcp",
    "SARVIS{0}_PORT_8000_TCP_PORT": "8000",
    "SARVIS{0}_PORT_8000_TCP_ADDR": "fd00::1",
}
DOCKER = {
    "SARVIS{0}_NAME": "/web/sarvis",
    "SARVIS{0}_PORT": "tcp://172.17.0.5:1883",
    "SARVIS{0}_PORT_1883_TCP_START": "tcp://172.17.0.5:1883",
    "SARVIS{0}_ENV_PATH": "/usr/bin",
    "SARVIS{0}_ENV_SARVIS_BROKER__HOST": "0.0.0.0",
}


@pytest.mark.parametrize("service", ["", "_BRIDGE", "_BROKER", "_MQTT", "_EDGE", "_BRIDGE_1", "_CONFIG", "_HTTP_API"])
@pytest.mark.parametrize("links", [KUBERNETES, DOCKER], ids=["Kubernetes", "Docker"])
def test_what_an_orchestrator_says_of_a_service_of_our_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, service: str, links: dict[str, str]
) -> None:
    for name, value in links.items():
        monkeypatch.setenv(name.format(service), value)
    assert load().model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("SARVIS_BRIDGE__PROT", "8001", "SARVIS_BRIDGE__PORT"),
        ("sarvis_bridge__prot", "8001", "SARVIS_BRIDGE__PORT"),
        ("SARVIS_BRIDGE_PORT", "8001", "SARVIS_BRIDGE__PORT"),
        ("SARVIS_MQTT", "mqtt://host", ""),
        ("SARVIS_MQTT_URL", "mqtt://host", "SARVIS_MQTT__URL"),
        ("SARVIS_EDGE__SERVICE_HOST", "10.0.0.1", ""),
        ("SARVIS_BROKER_ENV_PATH", "/usr/bin", ""),
        ("SARVIS_NAME", "sarvis", ""),
    ],
)
def test_a_setting_misspelt_is_still_an_error_and_told_what_was_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, hint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}.*{hint}"):
        load()


ALL_FIELDS = [
    pytest.param(section, key, id=f"{section}.{key}")
    for section in Settings.model_fields
    for key in type(getattr(Settings(), section)).model_fields
]
WRONG: dict[str, tuple[object, ...]] = {
    "boolean": (1, 0, 1.0, "true", "yes", [True], {"a": True}),
    "whole number": (True, False, "1", [1], {"a": 1}),
    "number": (True, False, "1.5", [1.0], {"a": 1.0}),
    "text": (True, 1, 1.5, ["x"], {"a": "x"}),
    "list": (True, 1, "a", {"a": "x"}, [True], [1], [["a"]]),
    "table": (True, 1, "a", ["a"], {"active": True}, {"active": "12"}, {"active": [1]}),
}


def toml_of(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_of(part)}" for key, part in value.items()) + " }"
    return json.dumps(value)


@pytest.mark.parametrize(("section", "key"), ALL_FIELDS)
def test_no_setting_takes_a_value_of_another_kind_from_a_file_or_an_argument(section: str, key: str) -> None:
    """Each of them, also where the library would take the value for the default: `channel = true` for 1."""
    kind = kinds.kind_of(type(getattr(Settings(), section)).model_fields[key].annotation)
    for value in WRONG[kind if isinstance(kind, str) else kind[0]]:
        Path("sarvis.toml").write_text(f"[{section}]\n{key} = {toml_of(value)}\n")
        with pytest.raises(SettingsError, match=rf"setting {section}\.{key}: .* is not .*; write it as {key} = "):
            load()
        Path("sarvis.toml").unlink()
        if getattr(getattr(Settings(), section), key) != value:  # those the library drops
            with pytest.raises(SettingsError, match=rf"{section}\.{key}.* is not "):
                load(None, **{f"{section}__{key}": value})


@pytest.mark.parametrize(("section", "key"), ALL_FIELDS)
def test_the_example_in_an_error_is_a_right_one(section: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = type(getattr(Settings(), section)).model_fields[key]
    kind = kinds.kind_of(field.annotation)
    if kind == "text":
        return
    Path("sarvis.toml").write_text(f"[{section}]\n{kinds.in_toml(key, field)}\n")
    from_file = getattr(getattr(load(), section), key) if key != "enabled" else False
    Path("sarvis.toml").unlink()
    name, _, value = kinds.in_environment(f"SARVIS_{section}__{key}".upper(), field).partition("=")
    monkeypatch.setenv(name, value.strip("'"))
    assert (getattr(getattr(load(), section), key) if key != "enabled" else False) == from_file


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BRIDGE__HOSTS", "hub.home", """is not valid JSON; write it as SARVIS_BRIDGE__HOSTS='["hub.home"]'"""),
        ("BRIDGE__HOSTS", '"hub.home"', """is not a list; write it as SARVIS_BRIDGE__HOSTS='["hub.home"]'"""),
        ("BRIDGE__HOSTS", '{"a": 1}', """a table is not a list; write it as SARVIS_BRIDGE__HOSTS='["hub.home"]'"""),
        ("BRIDGE__HOSTS", "[1]", """a number is not a text; write it as SARVIS_BRIDGE__HOSTS='["hub.home"]'"""),
        (
            "BRIDGE__HOSTS",
            "null",
            """it has no value; it must be a list; write it as SARVIS_BRIDGE__HOSTS='["hub.home"]'""",
        ),
        ("AUTH__ORIGINS", "a,b", """write it as SARVIS_AUTH__ORIGINS='["https://app.example"]'"""),
        ("EDGE__GPIO_LIGHTS", "active=12", """write it as SARVIS_EDGE__GPIO_LIGHTS='{"active": 12}'"""),
        ("EDGE__GPIO_LIGHTS", '{"active": true}', "a boolean is not a whole number; write it as"),
        ("BRIDGE__PORT", "true", "is not a whole number; write it as SARVIS_BRIDGE__PORT=8000"),
        ("BRIDGE__DRAIN_S", "false", "is not a number; write it as SARVIS_BRIDGE__DRAIN_S=2.0"),
        ("MQTT__FAST", "2", "is not a boolean; write it as SARVIS_MQTT__FAST=true"),
    ],
)
def test_a_variable_of_another_kind_is_explained_by_example(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SARVIS_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load()
    assert f"setting SARVIS_{name} in the environment" in str(refused.value)
    assert told in str(refused.value)


def test_texts_of_the_environment_become_numbers_and_booleans(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"BRIDGE__PORT": " 8001 ", "BRIDGE__DRAIN_S": "1.5", "MQTT__FAST": "off", "EDGE__GPIO_MUTE": "7",
             "EDGE__DEVICE_ID": "12", "MQTT__PASSWORD": "true"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"SARVIS_{name}", value)
    found = load()
    assert (found.bridge.port, found.bridge.drain_s, found.mqtt.fast, found.edge.gpio_mute) == (8001, 1.5, False, 7)
    assert found.edge.device_id == "12"
    assert found.mqtt.password is not None
    assert found.mqtt.password.get_secret_value() == "true"


def test_a_section_that_is_no_table_is_told_so() -> None:
    for text in ("bridge = 1\n", "bridge = []\n", "[[bridge]]\nport = 1\n"):
        Path("sarvis.toml").write_text(text)
        with pytest.raises(SettingsError, match=r"setting bridge is a table: write \[bridge\]"):
            load()
