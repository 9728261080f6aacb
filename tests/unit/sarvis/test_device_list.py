from pathlib import Path

import pytest

from contract.errors import SettingsError
from sarvis.device_changes import _check
from sarvis.device_list import Wanted, read


def listed(tmp_path: Path, text: str | bytes) -> list[Wanted]:
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, _check)


def test_a_line_is_a_device_and_what_is_not_in_it_stays(tmp_path: Path) -> None:
    text = "id,uid\njetson-1,alice\njetson-2,\njetson-3\n"
    assert listed(tmp_path, text) == [Wanted("jetson-1", "alice"), Wanted("jetson-2", ""), Wanted("jetson-3")]


@pytest.mark.parametrize(
    "text",
    [
        "id\njetson-1\n",
        "id\r\njetson-1\r\n",
        "\ufeffid\njetson-1",
        " id \n jetson-1 \n\n",
        '"id"\n"jetson-1"\n',
    ],
)
def test_it_may_come_from_a_spreadsheet_or_an_editor(tmp_path: Path, text: str) -> None:
    assert listed(tmp_path, text) == [Wanted("jetson-1")]


def test_columns_come_in_any_order(tmp_path: Path) -> None:
    text = 'logout_url,id,uid\nhttp://10.0.0.9:5000/api,old-1,"alice, the first"\n'
    assert listed(tmp_path, text) == [Wanted("old-1", "alice, the first", "http://10.0.0.9:5000/api")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line has no column id.*for example"),
        ("jetson-1\njetson-2\n", "the first line has no column id"),
        ("id,user\na,b\n", "the first line has the column 'user'"),
        ("id\n", "has no device"),
        ("id,uid\nok,alice\nj 2,bob\n", "line 3: ID 'j 2' must be"),
        ("id,uid\nok,a/b\n", "line 2: --uid"),
        ("id,logout_url\nok,ftp://x\n", "line 2: write --logout-url"),
        ("id\nlegacy-http\n", "line 2: ID legacy-http is reserved"),
        ("id\none\ntwo\none\n", "line 4: one occurs twice"),
        ("id,uid\none,alice,more\n", "line 2: it has more fields"),
        ('id\n"one\n', "list.csv, line "),
        (b"id\n\xff\xfe\n", "no|not a text file in UTF-8"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_added(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        listed(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.csv cannot be read: No such file"):
        read(tmp_path / "nowhere.csv", _check)
