"""A voice that was learned, while the node runs: taken when its file appears or changes, left when it is gone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SarvisError
from contract.places import kept_at_home
from contract.telemetry import get_logger
from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.verifier import SecondLook
from edge_node.wakeword.voice import Voice

log = get_logger("voice")

_Mark = tuple[int, int, int]


def voice_path(state_dir: Path, device_id: str) -> Path:
    """Where a device's voice is."""
    return kept_at_home(state_dir, "edge.state_dir") / f"{device_id}.voice"


@dataclass(frozen=True, slots=True)
class Learned:
    """What a node takes of a voice, ready for use.

    Attributes:
        threshold: lowest score that counts.
        look: what looks again at candidates; None if the voice has no verifier.
    """

    threshold: float
    look: SecondLook | None

    @classmethod
    def load(cls, path: Path, model: Path | None = None) -> "Learned":
        """Of a voice's file, for a model (default: the shipped one); SettingsError as `Voice.load`."""
        voice = Voice.load(path, model)
        return cls.of(voice, model)

    @classmethod
    def of(cls, voice: Voice, model: Path | None = None) -> "Learned":
        """Of a voice of this model; SettingsError as `SecondLook.on`."""
        look = SecondLook.on(voice.verifier, model or shipped_model_path()) if voice.verifier is not None else None
        return cls(voice.threshold, look)


class VoiceWatch:
    """Ask it often whether the file has changed.

    Args:
        load: reads a voice; raises SarvisError if it is none, or none of this model's.
        adopt: told the voice, or None when there is none any more.
    """

    def __init__(self, path: Path, load: Callable[[Path], Learned], adopt: Callable[[Learned | None], None]) -> None:
        self._path = path
        self._load = load
        self._adopt = adopt
        self._mark: _Mark | None = None

    def changed(self) -> bool:
        """Whether `look` would find something new; one system call."""
        return self._marks() != self._mark

    def look(self) -> None:
        """Adopt what is new; a voice that cannot be used is told once, and the node goes on without one."""
        mark = self._marks()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            voice = self._load(self._path) if mark is not None else None
        except (SarvisError, OSError) as error:
            log.error("voice_unusable", why=str(error))
            voice = None
        self._adopt(voice)

    def _marks(self) -> _Mark | None:
        """What every replaced file changes; None if there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
