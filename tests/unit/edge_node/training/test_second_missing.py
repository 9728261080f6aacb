"""The shipped model, which has a second stage, on a node without the recogniser, or told not to use it."""

from pathlib import Path

import pytest

from edge_node import doctor
from edge_node.audio.sources import open_source
from edge_node.listening import service
from edge_node.wakeword import hama_weights
from infra.settings.edge import EdgeSettings

pytestmark = pytest.mark.slow


class Clock:
    def monotonic(self) -> float:
        return 0.0

    def utc_now(self) -> None:
        raise AssertionError


@pytest.fixture
def settings(tmp_path: Path) -> EdgeSettings:
    return EdgeSettings(source="silence", state_dir=tmp_path)


class Log:
    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.told.append((event, fields))

    info = error = warning


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()
    monkeypatch.setattr(service, "log", found)
    return found


async def start(settings: EdgeSettings) -> service.ListeningService:
    one = service.ListeningService(settings, "jetson-1", Clock(), open_source)  # type: ignore[arg-type]
    with one.open():
        return one


async def test_it_starts_and_says_so_where_the_package_is_missing(
    settings: EdgeSettings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hama_weights, "find_spec", lambda _: None)
    one = await start(settings)
    assert one.detector.head.second is None
    ((event, fields),) = log.told
    assert event == "second_stage_missing"
    assert fields["model"] == "ssabiseu"
    assert "pip install 'hama==1.7.0'" in str(fields["why"])


async def test_it_says_nothing_where_all_is_there_or_where_it_is_told_not_to(
    settings: EdgeSettings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await start(settings)).detector.head.second is not None
    monkeypatch.setattr(hama_weights, "find_spec", lambda _: None)
    without = settings.model_copy(update={"second_stage": False})
    assert (await start(without)).detector.head.second is None
    assert log.told == []


def test_the_doctor_says_how_to_get_it_or_to_do_without(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "second stage" not in doctor._model(settings).found
    monkeypatch.setattr(hama_weights, "find_spec", lambda _: None)
    found = doctor._model(settings)
    assert found.state == "warning"
    assert "without its second stage: the package hama is not installed" in found.found
    assert "edge.second_stage = false" in str(found.advice)
    assert doctor._model(settings.model_copy(update={"second_stage": False})).state == "fine"
