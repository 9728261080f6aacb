from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.operator import proxies
from bridge.operator.proxies import HEAD, Plan
from contract.errors import SettingsError

PLAN = Plan(
    ("https://10.0.0.5:8000", "https://10.0.0.6:8000"), ("::", 443), "/etc/ssl/hub.crt", "/etc/ssl/hub.key",
    ca_file="/etc/hub/ca.crt", name="hub.home",
)  # fmt: skip


def test_haproxy_asks_readyz_and_keeps_the_sockets_of_a_bridge_that_is_not_ready() -> None:
    said = proxies.haproxy(PLAN)
    assert "uri /readyz" in said
    assert "    on-marked-down" not in "\n".join(line for line in said.splitlines() if "#" not in line)
    assert said.count("    server bridge-2 10.0.0.6:8000\n") == 2, "for sockets and for calls"
    assert "ssl verify required ca-file /etc/hub/ca.crt verifyhost hub.home" in said
    assert "bind [::]:443 ssl crt /etc/ssl/hub.crt" in said


def test_nginx_checks_the_bridges_certificate_and_asks_the_next_after_503() -> None:
    said = proxies.nginx(PLAN)
    for line in ("proxy_ssl_verify on;", "proxy_ssl_name hub.home;", "proxy_next_upstream error timeout http_503;"):
        assert line in said
    assert "non_idempotent" not in said


def test_without_tls_behind_the_proxy_nothing_is_verified() -> None:
    plain = Plan(("http://[::1]:8000",), ("0.0.0.0", 443), "/a.crt", "/a.key")
    proxies.check(plain)
    assert "verify" not in proxies.nginx(plain)
    assert "server [::1]:8000 " in proxies.nginx(plain)
    assert "verify" not in proxies.haproxy(plain)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(("http://a", "https://b"), ("", 1), "/c", "/k"), "all addresses must begin with https://"),
        (Plan(("https://a",), ("", 1), "/c", "/k"), "--bridge-ca is missing"),
        (Plan(("http://a",), ("", 1), "/c d", "/k"), "cannot contain"),
        (Plan(("http://a",), ("", 1), "/c", "/k", name="a;b"), "cannot contain"),
    ],
)
def test_what_a_proxys_configuration_cannot_say_is_refused(plan: Plan, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        proxies.check(plan)


def test_only_an_own_file_is_replaced(tmp_path: Path) -> None:
    for name in ("hub.crt", "hub.key"):
        (tmp_path / name).write_text("")
    out = tmp_path / "haproxy.cfg"
    line = ["config", "haproxy", "--bridge", "http://a:1", "--cert", str(tmp_path / "hub.crt"), "--out", str(out)]
    for _ in range(2):
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.output
    assert out.read_text().startswith(HEAD)
    assert "trusted_proxies" in done.output
    out.write_text("mine\n")
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, SettingsError)
    assert "not written by this command" in str(done.exception)
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--bridge", "ftp://a"], "--bridge: write it as http://HOST:PORT"),
        (["--cert", "/nowhere/hub.crt"], "/nowhere/hub.crt does not exist"),
        (["--bridge", "https://a"], "--bridge-ca is missing"),
    ],
)
def test_what_is_not_there_is_named(changed: list[str], told: str, tmp_path: Path) -> None:
    for name in ("hub.crt", "hub.key"):
        (tmp_path / name).write_text("")
    given = {"--bridge": "http://a:1", "--cert": str(tmp_path / "hub.crt"), "--out": str(tmp_path / "it")}
    given |= {changed[0]: changed[1]}
    done = CliRunner().invoke(app, ["config", "nginx", *(word for pair in given.items() for word in pair)])
    assert isinstance(done.exception, SettingsError)
    assert told in str(done.exception)
    assert not (tmp_path / "it").exists()
