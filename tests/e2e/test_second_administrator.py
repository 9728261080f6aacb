"""The second administrator: another user, another HOME, the same ledger, or a word that there is none."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.test_hosting import NOBODY, as_nobody
from tests.support.ports import HOST, free_port
from tests.support.programs import needs
from tests.support.terminals import Terminals
from tests.support.waiting import wait_for
from tests.support.world import accepts

KIT = "hub/bridge/sarvis.toml"
CHANGES = [
    ("device", "add", "kitchen", "--uid", "alice", "--logout-url", "http://127.0.0.1:1/x"),
    ("token", "api", "me", "--role", "operator"),
    ("token", "revoke", "0123456789ab"),
    ("device", "remove", "kitchen", "--wait-s", "0"),
]
READS = [("device", "list"), ("sessions", "list"), ("sessions", "show", "alice"), ("token", "list")]


class Hub:
    """A folder of `sarvis broker config embedded`, and commands with a HOME of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt, self.http = free_port(), free_port()
        self.before: list[str] = []

    def env(self, home: str = "home", more: Mapping[str, str] | None = None) -> dict[str, str]:
        (self.folder / home).mkdir(exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        return {
            **clean,
            "HOME": str(self.folder / home),
            "PYTHONUTF8": "1",
            "PYTHONPATH": str(Path.cwd()),
            "SARVIS_BRIDGE__PORT": str(self.http),
            "SARVIS_OPERATOR__URL": f"https://localhost:{self.http}",
            **(more or {}),
        }

    def run(
        self,
        *arguments: str,
        home: str = "home",
        before: list[str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(self.before if before is None else before), sys.executable, "-m", "sarvis", *arguments],
            cwd=self.folder,
            env=self.env(home, more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def configure(self, *more: str) -> subprocess.CompletedProcess[str]:
        done = self.run(
            "broker", "config", "embedded", "--out", "hub", "--host", "localhost", "--listen", HOST,
            "--port", str(self.mqtt), *more,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    def fine(self, *arguments: str, home: str = "home", before: list[str] | None = None) -> str:
        done = self.run(*arguments, home=home, before=before)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bridge(self, *more: str) -> Terminals:
        """A bridge that serves; close what is returned."""
        terminals = Terminals(self.folder, self.env())
        terminals.start("bridge", [*self.before, sys.executable, "-m", "sarvis", "bridge", *more])
        try:
            terminals.sees("bridge", "bridge listening")
            wait_for("the bridge's port", lambda: accepts(self.http))
        except BaseException:
            terminals.close()
            raise
        return terminals

    def ledgers(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("ledger.db")}


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def test_whoever_gives_the_kit_finds_the_same_ledger(hub: Hub) -> None:
    hub.configure()
    hub.fine("device", "add", "first", "--uid", "alice", "--kit", "first", "--config", KIT, home="one")
    key = hub.fine("token", "api", "me", "--role", "operator", "--config", KIT, home="two").strip()
    bridge = hub.bridge("--config", KIT)
    try:
        hub.fine("device", "add", "second", "--uid", "bob", "--kit", "second", "--config", KIT, home="three")
        listed = hub.fine("device", "list", "--config", KIT, home="four")
        assert "first" in listed
        assert "second" in listed
        more = {"SARVIS_OPERATOR__API_KEY": key, "SARVIS_OPERATOR__API_KEY_FILE": ""}
        done = hub.run("sessions", "logout", "bob", "--config", "hub/asks.toml", home="five", more=more)
        assert done.returncode == 2, "that settings file is not there"
    finally:
        bridge.close()
    assert hub.ledgers() == {"hub/bridge/ledger.db"}
    assert "me" in hub.fine("token", "list", "--config", KIT, home="six")


@pytest.mark.parametrize("arguments", [*CHANGES, *READS], ids=" ".join)
def test_a_command_that_finds_no_ledger_makes_none_and_says_where_it_looked(
    hub: Hub, arguments: tuple[str, ...]
) -> None:
    done = hub.run(*arguments, home="other")
    assert done.returncode == 3, done.stdout + done.stderr
    place = hub.folder / "other" / ".local" / "state" / "sarvis" / "bridge" / "ledger.db"
    for words in (str(place), f"HOME={hub.folder / 'other'}", "sarvis bridge", "--config", "--store-url"):
        assert words in done.stderr
    assert done.stdout == ""
    assert list((hub.folder / "other").rglob("*")) == [], "nothing was made, no folder either"


@pytest.mark.parametrize("arguments", CHANGES, ids=" ".join)
def test_a_ledger_that_was_lost_is_not_made_anew_by_a_command(hub: Hub, arguments: tuple[str, ...]) -> None:
    hub.configure()
    (hub.folder / "hub" / "bridge" / "operator.key").write_text("k" * 40)
    hub.bridge("--config", KIT).close()
    ledger = hub.folder / "hub" / "bridge" / "ledger.db"
    for lost in ("removed", "emptied"):
        if lost == "removed":
            ledger.rename(hub.folder / "lost.db")
        else:
            ledger.touch()
        done = hub.run(*arguments, "--config", KIT, home="other")
        assert done.returncode == 3, lost
        assert str(ledger) in done.stderr
        assert not (ledger.exists() and ledger.stat().st_size)


def test_a_typed_address_where_there_is_no_ledger_makes_none(hub: Hub) -> None:
    hub.configure()
    done = hub.run(*CHANGES[0], "--config", KIT, "--store-url", f"sqlite:///{hub.folder}/typo.db")
    assert done.returncode == 3
    assert "typo.db" in done.stderr
    assert not (hub.folder / "typo.db").exists()


def test_a_store_table_of_ones_own_takes_the_place_of_that_of_set_up(hub: Hub) -> None:
    hub.configure()
    with (hub.folder / KIT).open("a") as file:
        file.write(f'\n[store]\nurl = "sqlite:///{hub.folder}/mine.db"\n')
    hub.fine(*CHANGES[0], "--config", KIT)
    assert (hub.folder / "mine.db").stat().st_size
    (hub.folder / "mine.db").rename(hub.folder / "lost.db")
    assert hub.run(*CHANGES[1], "--config", KIT).returncode == 3, "only once"
    hub.bridge("--config", KIT).close()
    assert (hub.folder / "mine.db").exists()
    assert "mine.db" not in hub.configure().stderr
    assert "mine.db" in (hub.folder / KIT).read_text()


def _as_older(hub: Hub) -> None:
    """A kit as an older version made it."""
    hub.configure()
    path = hub.folder / KIT
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("[store]"))
    kept = [line for line in [*lines[:at], *lines[at + 2 :]] if not line.startswith("# Add your own")]
    path.write_text("\n".join(kept) + "\n")
    (hub.folder / "hub" / "bridge" / "ledger.db").unlink()


def test_an_older_kit_is_told_where_its_ledger_is(hub: Hub) -> None:
    _as_older(hub)
    hub.bridge("--config", KIT).close()
    hub.fine(*CHANGES[0], "--config", KIT)
    ledger = hub.folder / "home" / ".local" / "state" / "sarvis" / "bridge" / "ledger.db"
    assert hub.ledgers() == {str(ledger.relative_to(hub.folder))}
    assert str(ledger) in hub.configure().stderr
    assert "kitchen" in hub.fine("device", "list", "--config", KIT, home="other")
    assert hub.ledgers() == {str(ledger.relative_to(hub.folder))}
    assert hub.configure().stderr == ""


def test_an_older_kit_without_a_found_ledger_says_what_to_do_and_stays_unchanged(hub: Hub) -> None:
    _as_older(hub)
    told = hub.configure().stderr
    assert "has no place of the ledger" in told
    assert "[store]" in told
    assert "\n[store]" not in (hub.folder / KIT).read_text()
    assert hub.ledgers() == set()


def test_a_relative_address_starts_at_the_file_and_an_older_place_is_named(hub: Hub) -> None:
    (hub.folder / "sub").mkdir()
    (hub.folder / "sub" / "s.toml").write_text(
        '[store]\nurl = "sqlite:///ledger.db"\n[mqtt]\nurl = "mqtt://127.0.0.1:1"\n'
    )
    hub.bridge("--config", "sub/s.toml").close()
    assert hub.ledgers() == {"sub/ledger.db"}
    hub.fine(*CHANGES[0], "--config", "sub/s.toml")
    (hub.folder / "sub" / "ledger.db").rename(hub.folder / "ledger.db")
    done = hub.run("device", "list", "--config", "sub/s.toml")
    assert done.returncode == 2
    assert str(hub.folder / "ledger.db") in done.stderr
    assert str(hub.folder / "sub" / "ledger.db") in done.stderr
    assert "kitchen" in hub.fine("device", "list", "--config", "sub/s.toml", "--store-url", "sqlite:///ledger.db")


@needs("root")
def test_what_root_does_leaves_nothing_that_the_user_of_the_bridge_cannot_open(hub: Hub) -> None:
    service, _ = as_nobody(hub.folder)
    hub.before = service
    hub.configure()
    root: list[str] = []
    # Before the bridge's first start, beside it, and after it was killed: who comes first makes files.
    hub.fine(
        "token", "api", "me", "--role", "operator", "--out", "hub/bridge/operator.key", "--config", KIT, before=root
    )
    hub.fine("token", "app", "alice", "--config", KIT, before=root)
    hub.fine("device", "add", "one", "--uid", "alice", "--kit", "hub/one", "--config", KIT, before=root)
    _all_belong_to_the_service(hub)
    bridge = hub.bridge("--config", KIT)
    try:
        hub.fine("device", "add", "two", "--kit", "hub/two", "--config", KIT, before=root)
        hub.fine("device", "remove", "one", "--wait-s", "0", "--config", KIT, before=root)
        _all_belong_to_the_service(hub)
    finally:
        bridge.close()
    for name in ("ledger.db.lock", "ledger.db-wal", "ledger.db-shm"):
        (hub.folder / "hub" / "bridge" / name).unlink(missing_ok=True)
    hub.fine("device", "add", "three", "--kit", "hub/three", "--config", KIT, before=root)
    hub.fine("device", "list", "--config", KIT, before=root)
    hub.fine("device", "remove", "three", "--wait-s", "0", "--config", KIT, before=root)
    _all_belong_to_the_service(hub)
    hub.bridge("--config", KIT).close()
    assert "two" in hub.fine("device", "list", "--config", KIT)


def _all_belong_to_the_service(hub: Hub) -> None:
    strange = [path for path in (hub.folder / "hub").rglob("*") if path.lstat().st_uid != NOBODY]
    assert strange == []


@needs("root")
def test_a_lock_file_left_by_root_is_named_and_roots_next_command_returns_it(hub: Hub) -> None:
    service, _ = as_nobody(hub.folder)
    hub.before = service
    hub.configure()
    hub.bridge("--config", KIT).close()
    lock = hub.folder / "hub" / "bridge" / "ledger.db.lock"
    os.chown(lock, 0, 0)
    done = hub.run("bridge", "--config", KIT)
    assert done.returncode == 3
    assert str(lock) in done.stderr
    assert "chown" in done.stderr
    hub.fine(*CHANGES[0], "--config", KIT, before=[])
    hub.bridge("--config", KIT).close()
