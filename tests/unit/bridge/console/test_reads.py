"""Pages of wakes: each wake on one page and none on two, however they came and were written."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.console import reads
from bridge.stories.file import StoriesFile, encoded
from bridge.stories.records import Run, Story
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings

T0 = 1_800_000_000.0


def story(number: int, at: float, uid: str) -> Story:
    received = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return Story(f"w{number}", uid, "jetson", received, at, 3, 10_000, 0.8, "m", "sent", "sent", 0.1, ())


def pages(file: Path, now: float, uid: str) -> list[list[str]]:
    """The ids of all pages."""
    wanted = Settings(bridge=BridgeSettings(stories_file=file))
    found, before = [], None
    while True:
        page = reads.wakes(wanted, now, before, uid, "")
        found.append([one.id for one in page.rows])
        if page.next is None:
            return found
        assert before is None or float(str(page.next)) < before, "each page goes on"
        before = float(str(page.next))


@given(
    wakes=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 30), st.sampled_from("ab")),  # ms, seconds until written, user
        max_size=60,
    ),
    searched=st.sampled_from([3, 20_000]),
    uid=st.sampled_from(["", "a"]),
)
@settings(max_examples=60, deadline=None)
def test_each_wake_is_on_one_page(wakes: list[tuple[int, int, str]], searched: int, uid: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "ROWS", 5)
        patch.setattr(reads, "MOST_SEARCHED", searched)
        path = Path(folder) / "stories.db"
        file = StoriesFile.open(path, Run("bridge-1", T0, T0, None, "0.1.0", pushes=False))
        came = [(T0 + ms / 1000 + 100 * (number % 3), later, user) for number, (ms, later, user) in enumerate(wakes)]
        by_writing: dict[float, list[Story]] = {}
        for number, (at, later, user) in enumerate(came):
            by_writing.setdefault(at + later, []).append(story(number, at, user))
        for written_at, stories in sorted(by_writing.items()):
            file.write(written_at, [(written_at, len(stories), encoded(stories))], (), [])
        file.close()
        found = pages(path, T0 + 400.0, uid)
    ids = [wake_id for page in found for wake_id in page]
    wanted = [(at, f"w{number}") for number, (at, _, user) in enumerate(came) if uid in {"", user}]
    at_once = max((sum(other == at for other, _ in wanted) for at, _ in wanted), default=0)
    assert max(map(len, found)) <= max(5, at_once)
    assert sorted(ids) == sorted(wake_id for _, wake_id in wanted)
    times = {wake_id: at for at, wake_id in wanted}
    assert [times[wake_id] for wake_id in ids] == sorted(times.values(), reverse=True)
