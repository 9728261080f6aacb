import re
from pathlib import Path

import pytest

from contract.app_socket import CloseCode
from contract.topics import TABLE, Topic
from tests.documents.tables import PAGE, TABLES, filled, named
from tests.documents.written import WRITTEN

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "docs" / "contract.md"


def row(topic: Topic) -> str:
    owner = "{device_id}" if topic.family == "devices" else "{bridge}"
    direction = topic.direction.replace("_", " ")
    retained = "yes" if topic.retained else "no"
    keys = ", ".join(topic.model.model_fields)
    qos = f"{topic.qos}" if topic.repeat_qos is None else f"{topic.qos}, repeated with {topic.repeat_qos}"
    return f"| {topic.family}/{owner}/{topic.kind} | {direction} | {qos} | {retained} | {keys} |"


def test_the_documented_topics_are_those_of_the_table() -> None:
    lines = CONTRACT.read_text(encoding="utf-8").splitlines()
    documented = [line for line in lines if line.startswith(("| devices/", "| bridges/"))]
    assert documented == [row(topic) for topic in TABLE]


def test_every_test_that_a_document_names_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    written = set(re.findall(r"def (test_\w+)\(", sources)) | {
        path.stem for path in (ROOT / "tests").rglob("test_*.py")
    }
    named = {
        (document.name, name)
        for document in sorted((ROOT / "docs").rglob("*.md"))
        for name in re.findall(r"\btest_[a-z0-9_]+", document.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    assert {(document, name) for document, name in named if name not in written} == set()


def test_the_tables_for_app_developers_are_what_the_code_gives() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == filled(written), "write them anew with `python -m tests.documents`"


def test_each_table_for_app_developers_is_there_once() -> None:
    assert sorted(named(PAGE.read_text(encoding="utf-8"))) == sorted(TABLES)


def test_the_clients_for_app_developers_fit_on_a_page() -> None:
    clients = re.findall(r"```(?:python|javascript)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(clients) == 2
    for client in clients:
        lines = [line for line in client.splitlines() if line.strip()]
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 120


def test_each_close_code_that_app_developers_read_of_is_one() -> None:
    codes = set(re.findall(r"\b4\d{3}\b", PAGE.read_text(encoding="utf-8")))
    assert codes == {str(int(code)) for code in CloseCode if code >= CloseCode.DRAIN} | {"4999"}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_file_that_is_made_from_the_code_is_as_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITTEN[path](), "write it anew with `python -m tests.documents`"
