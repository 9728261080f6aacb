import hashlib
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bridge.api import web_app_files as page_files
from bridge.api.web_app import SHIPPED, page
from bridge.api.web_app_files import PageFiles

KIND = "application/json"


def listed(files: PageFiles) -> dict[str, Any]:
    told = files.listed()
    assert told is not None
    found: dict[str, Any] = json.loads(told)
    return found


def test_every_file_of_the_page_is_listed_by_what_is_in_it() -> None:
    found = listed(PageFiles(SHIPPED))
    there = {path.relative_to(SHIPPED).as_posix(): path for path in SHIPPED.rglob("*") if path.is_file()}
    assert set(found["files"]) == set(there) - {"sw.js"}
    for name, fingerprint in found["files"].items():
        assert fingerprint == hashlib.sha256(there[name].read_bytes()).hexdigest()
    assert found["app"] == "sarvis"


def test_the_version_is_another_when_a_file_is(tmp_path: Path) -> None:
    files = PageFiles(tmp_path)
    (tmp_path / "index.html").write_text("a")
    first = listed(files)
    assert listed(files) == first
    (tmp_path / "index.html").write_text("b")
    os.utime(tmp_path / "index.html", ns=(1, 1))
    second = listed(files)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a b.js").write_text("")
    third = listed(files)
    (tmp_path / "core" / "a b.js").rename(tmp_path / "c.js")
    fourth = listed(files)
    assert len({one["version"] for one in (first, second, third, fourth)}) == 4
    assert set(third["files"]) == {"index.html", "core/a%20b.js"}
    assert set(fourth["files"]) == {"index.html", "c.js"}
    assert set(files._known) == {tmp_path / "index.html", tmp_path / "c.js"}


def test_hidden_files_and_the_worker_are_not_kept(tmp_path: Path) -> None:
    for name in ("index.html", "sw.js", ".env", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(listed(PageFiles(tmp_path))["files"]) == {"index.html"}


def test_a_folder_that_is_too_much_for_a_phone_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}.js").write_text("x" * 10)
    monkeypatch.setattr(page_files, "MAX_BYTES", 39)
    assert PageFiles(tmp_path).listed() is None
    monkeypatch.setattr(page_files, "MAX_BYTES", 40)
    assert PageFiles(tmp_path).listed() is not None
    monkeypatch.setattr(page_files, "MAX_FILES", 3)
    assert PageFiles(tmp_path).listed() is None


async def test_the_bridge_serves_the_list_beside_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("mine")

    async def ask(method: str, path: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=page(tmp_path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:
            return await client.request(method, path)

    answer = await ask("GET", "/files.json")
    assert (answer.status_code, answer.headers["content-type"], answer.headers["cache-control"]) == (
        200,
        KIND,
        "no-cache",
    )
    assert set(answer.json()["files"]) == {"index.html"}
    assert (await ask("HEAD", "/files.json")).content == b""
    assert (await ask("GET", "/")).text == "mine"
    monkeypatch.setattr(page_files, "MAX_FILES", 0)
    assert (await ask("GET", "/files.json")).status_code == 404
    (tmp_path / "files.json").write_text("theirs")
    assert (await ask("GET", "/files.json")).text == "theirs"
