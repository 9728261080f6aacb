"""The limit of open files: raised as far as it makes sense, and shared out."""

import resource

import pytest

from infra.open_files import MOST, SPARE, for_connections, raise_limit

INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "set_to"),
    [
        (1024, 4096, 4096, (4096, 4096)),
        (4096, 4096, 4096, None),
        (256, 256, 256, None),
        (1024, 1_073_741_816, MOST, (MOST, 1_073_741_816)),
        (1024, INFINITY, MOST, (MOST, INFINITY)),
        (INFINITY, INFINITY, MOST, None),
        (1_073_741_816, 1_073_741_816, MOST, None),
    ],
)
def test_the_soft_limit_becomes_the_hard_one_but_no_billion(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: int, set_to: tuple[int, int] | None
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert raise_limit() == allowed
    assert limits == ([set_to] if set_to else [])


def test_where_the_limit_may_not_be_raised_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_which: int, _pair: tuple[int, int]) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 1024


def test_some_files_are_kept_for_what_is_no_connection() -> None:
    assert [for_connections(files) for files in (32, 256, 512, 1024)] == [16, 128, 256, 1024 - SPARE]
