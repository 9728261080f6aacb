"""One bridge of each kind for a module: tests in it do not disturb one another."""

from collections.abc import Iterator

import pytest

from tests.integration.websocket.kinds import KINDS, speaking
from tests.support.world import Bridge


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def bridge(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with speaking(kind, tmp_path_factory.mktemp(kind)) as running:  # fails over a traceback in its log
        yield running
