"""What a node learned of the people of its place: how sure the model is of their words here, and of what is none.

It is numbers, no sound that could be played; but a verifier tells these people's word from others', and the memory
holds what the model makes of how they said it.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from contract import files
from contract.errors import SettingsError
from edge_node.wakeword.impression import Impression
from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Memory:
    """What was taught, as numbers along the axes of these grounds.

    Attributes:
        grounds: their mark.
    """

    grounds: str
    words: list[Impression]
    talk: Impression
    room: Impression


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice for one model.

    Attributes:
        model_sha256: of the model's file.
        made_at: ISO 8601, UTC.
        threshold: lowest score that counts.
        words: the score of each utterance of the word, 0 to 1: what the gate would have to be at most to hear it.
        talk, room: such scores of what is not the word, the highest of each second.
        labelled_words, labelled_others: such scores of what people labelled.
        verifier: what looks again at candidates; all scores are with it, those of words with one made without that
            word. None if the model has no grounds for one.
        false_accepts_per_hour: to be expected at this threshold, measured on recordings; None without grounds.
        memory: from which a verifier is made again with other labels; None without grounds.
    """

    model_sha256: str
    made_at: str
    threshold: Annotated[float, Field(gt=0.0, le=1.0)]
    words: list[float]
    talk: list[float]
    room: list[float]
    labelled_words: list[float]
    labelled_others: list[float]
    verifier: Verifier | None = None
    false_accepts_per_hour: float | None = None
    memory: Memory | None = None

    @property
    def missed(self) -> int:
        """How many of these words it would not hear."""
        return sum(score < self.threshold for score in (*self.words, *self.labelled_words))

    @property
    def false_accepts(self) -> int:
        """How many seconds of talk and room, and labelled sounds, it would take for the word."""
        return sum(score >= self.threshold for score in (*self.talk, *self.room, *self.labelled_others))

    def save(self, path: Path) -> None:
        """Replace the file as a whole, for its owner alone; raises OSError."""
        files.write(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path, model: Path | None = None) -> "Voice":
        """Read one; SettingsError if it is none, or belongs to another model than this one (default: the shipped)."""
        try:
            voice = _ADAPTER.validate_json(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise SettingsError(f"{path}: is no voice, or is damaged; enrol again") from error
        if voice.model_sha256 != model_sha256(model):
            raise SettingsError(f"{path}: was learned with another model; enrol again with this one")
        return voice


_ADAPTER = TypeAdapter(Voice)


def model_sha256(model: Path | None = None) -> str:
    """Of a model's file, by default the shipped one; SettingsError if it cannot be read."""
    path = model or shipped_model_path()
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
