import asyncio

import pytest

from tools.conformance import websocket


def test_the_connection_passes_autobahns_cases_strictly() -> None:
    cases = asyncio.run(websocket.results())
    assert [case for case in cases if not case.is_strict] == []
    assert len(cases) == 252


@pytest.mark.parametrize("case", ["1.1.6", "1.2.6", "9.1.1"])
def test_a_message_above_the_limit_is_refused_with_its_code(case: str) -> None:
    [result] = asyncio.run(websocket.results([case], []))
    assert (result.messages, result.end) == ("FAILED", "FAILED")
