"""Where a ledger may be: a file of SQLite or a database of PostgreSQL."""

import pytest
from pydantic import ValidationError

from contract.errors import SettingsError
from infra.settings.bridge import StoreSettings


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sarvis@db.example/sarvis",
        "postgres://db.example:5433/sarvis?sslmode=require",
        "postgresql://sarvis@one.example:5432,two.example:5433/sarvis",
        "postgresql:///sarvis?host=/run/postgresql",
    ],
)
def test_a_database_is_a_place(url: str) -> None:
    store = StoreSettings(url=url)
    assert (store.is_file, store.place) == (False, url)
    with pytest.raises(SettingsError, match=r"is no file \(store\.url\)"):
        _ = store.path


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://sarvis@db.example", "write the ledger's place as"),
        ("postgresql://sarvis@db.example/", "write the ledger's place as"),
        ("postgresql://sarvis@db.example/x#y", "write the ledger's place as"),
        ("mysql://db.example/sarvis", "write the ledger's place as"),
        ("postgresql+asyncpg://db.example/sarvis", "write the ledger's place as"),
        ("postgresql://sarvis:hunter2@db.example/sarvis", "set store.password_file instead"),
        ("postgresql://sarvis:@db.example/sarvis", "set store.password_file instead"),
        ("postgresql://sarvis:1/hunter2@db.example/sarvis", "set store.password_file instead"),
        ("postgresql://sarvis:hunter2#x@db.example/sarvis", "set store.password_file instead"),
        ("postgresql://db.example/sarvis?password=hunter2", "set store.password_file instead"),
        ("postgresql://db.example/sarvis?sslpassword=hunter2", "set store.password_file instead"),
    ],
)
def test_what_is_no_place_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        StoreSettings(url=url)


@pytest.mark.parametrize("name", ["password", "password_file", "ca_file"])
def test_a_file_of_sqlite_has_neither_password_nor_authority(name: str) -> None:
    with pytest.raises(ValidationError, match=r"need a store\.url that begins with postgresql://"):
        StoreSettings.model_validate({name: "x"})


def test_a_password_is_set_in_one_way() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        StoreSettings.model_validate({"url": "postgresql:///x", "password": "a", "password_file": "b"})
