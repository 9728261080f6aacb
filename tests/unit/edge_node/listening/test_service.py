"""Ears on a recording that is heard as fast as it is read."""

import asyncio
from pathlib import Path

import numpy as np

from contract.clock import SystemClock
from edge_node.audio.soundfiles import read_wav
from edge_node.audio.sources import AudioSource, PacedSource, SourceOptions
from edge_node.display.events import Alarm
from edge_node.listening.service import ListeningService
from edge_node.recordings.folder import TriggerFolder
from edge_node.wakeword.gate import Trigger
from edge_node.wakeword.near import NearMisses
from edge_node.wakeword.voice import Voice, model_sha256
from edge_node.wakeword.voice_watch import voice_path
from infra.settings.edge import EdgeSettings

WORD = Path(__file__).parents[3] / "data" / "ssabiseu_em_alex.wav"
SILENCE = np.zeros(40_000, np.int16)


class Hearer:
    def __init__(self) -> None:
        self.scores: list[float] = []

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        assert heard_at > 0.0
        self.scores.append(trigger.score)

    def alarm(self, name: Alarm, raised: bool) -> None:
        raise AssertionError(name, raised)

    def mute(self, muted: bool) -> None:
        assert not muted

    def near(self, misses: NearMisses) -> None:
        assert misses.count == 0


def recording(_spec: str, _options: SourceOptions) -> AudioSource:
    return PacedSource(np.concatenate((SILENCE, read_wav(WORD), SILENCE)), None, endless=False)


async def heard(edge: EdgeSettings) -> list[float]:
    """The scores of what was taken for the word."""
    hearer = Hearer()
    ears = ListeningService(edge, "jetson", SystemClock(), recording)
    with ears.open():
        ears.start(hearer)
        assert await asyncio.wait_for(ears.end, 20) is None
        await ears.stop()
    return hearer.scores


def learn(folder: Path, threshold: float, sha256: str | None = None) -> None:
    Voice(sha256 or model_sha256(), "2026-01-31T10:00:00+00:00", threshold, [], [], [], [], []).save(
        voice_path(folder, "jetson")
    )


async def test_the_word_is_heard_once_and_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert len(await heard(EdgeSettings(state_dir=tmp_path))) == 1
    assert TriggerFolder(tmp_path, "jetson").all() == []


async def test_a_voice_that_is_there_at_the_start_counts_from_the_first_frame(tmp_path: Path) -> None:
    learn(tmp_path, 0.99)
    assert await heard(EdgeSettings(state_dir=tmp_path)) == []


async def test_a_threshold_in_the_settings_overrules_a_voice(tmp_path: Path) -> None:
    learn(tmp_path, 0.99)
    assert len(await heard(EdgeSettings(state_dir=tmp_path, threshold=0.6))) == 1


async def test_a_voice_of_another_model_is_not_used(tmp_path: Path) -> None:
    learn(tmp_path, 0.99, sha256="0")
    assert len(await heard(EdgeSettings(state_dir=tmp_path))) == 1


async def test_what_comes_at_the_very_end_is_kept_all_the_same(tmp_path: Path) -> None:
    await heard(EdgeSettings(state_dir=tmp_path, keep_triggers=True))
    assert [kept.kind for kept in TriggerFolder(tmp_path, "jetson").all()] == ["trigger"]


async def test_what_was_kept_before_grows_old_also_when_nothing_more_is_kept(tmp_path: Path) -> None:
    await heard(EdgeSettings(state_dir=tmp_path, keep_triggers=True))
    await heard(EdgeSettings(state_dir=tmp_path, keep_triggers_days=1e-9))
    assert TriggerFolder(tmp_path, "jetson").all() == []
