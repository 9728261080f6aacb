"""Reloads the enrolled voice when its file appears, changes or disappears."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SarvisError
from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.verifier import SecondLook
from edge_node.wakeword.voice import Voice
from infra.places import kept_at_home
from infra.telemetry import get_logger
from infra.watched_file import WatchedFile

log = get_logger("voice")


def voice_path(state_dir: Path, device_id: str) -> Path:
    """The path of a device's voice."""
    return kept_at_home(state_dir, "edge.state_dir") / f"{device_id}.voice"


@dataclass(frozen=True, slots=True)
class Learned:
    """A voice in the form that a node uses.

    Attributes:
    threshold: lowest score that counts.
    look: scores candidates again; None if the voice has no verifier.
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
    """Call `look` often; it reads the file if it has changed.

    Args:
    load: reads a voice; raises SarvisError if it is invalid, or belongs to another model.
    adopt: called with the voice, or None if it was removed.
    """

    def __init__(self, path: Path, load: Callable[[Path], Learned], adopt: Callable[[Learned | None], None]) -> None:
        self._path = path
        self._load = load
        self._adopt = adopt
        self._file = WatchedFile(path, read=self._read)

    def changed(self) -> bool:
        """Whether `look` would find a change; one system call."""
        return self._file.is_changed()

    def look(self) -> None:
        """Adopt a changed voice; an unusable one is logged once, and the node continues without a voice."""
        self._file.look()

    def _read(self) -> None:
        # Raises nothing: without a usable voice the old one is not kept.
        try:
            voice = self._load(self._path) if self._file.is_there else None
        except (SarvisError, OSError) as error:
            log.error("voice_unusable", why=str(error))
            voice = None
        self._adopt(voice)
