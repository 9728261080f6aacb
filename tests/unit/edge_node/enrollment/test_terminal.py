import os
from collections.abc import Iterator

import pytest

from edge_node.enrollment.terminal import Lines


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Of a pipe: to read from, to type into."""
    reading, typing = os.pipe()
    yield reading, typing
    os.close(reading)


def test_lines_are_returned_once_complete_without_blocking(ends: tuple[int, int]) -> None:
    reading, typing = ends
    lines = Lines(reading)
    assert lines.ready() == []
    os.write(typing, "\nr\n싸".encode())
    assert lines.ready() == ["", "r"]
    os.write(typing, "비스\r\n".encode())
    assert lines.ready() == ["싸비스"]
    assert not lines.ended
    os.close(typing)
    assert lines.ready() == []
    assert lines.ended
