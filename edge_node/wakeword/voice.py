"""An enrolled voice: the model's scores of these people's words, and of other sounds.

It is numbers, not sound that could be played; but a verifier distinguishes these people's word from others', and the
memory holds the model's numbers of how they said it.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import onnx
from pydantic import Field, TypeAdapter, ValidationError

from contract.errors import SettingsError
from edge_node.wakeword.impression import Impression
from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.second_stage import FIRST
from edge_node.wakeword.verifier import Verifier
from infra import files
from infra.readable import read_bytes


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
        model_sha256: of the model's file, as `model_sha256` has it.
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
        """How many of these words the gate would miss."""
        return sum(score < self.threshold for score in (*self.words, *self.labelled_words))

    @property
    def false_accepts(self) -> int:
        """How many seconds of talk and room, and labelled sounds, the gate would take for the word."""
        return sum(score >= self.threshold for score in (*self.talk, *self.room, *self.labelled_others))

    def save(self, path: Path) -> None:
        """Replace the file as a whole, for its owner alone; raises OSError."""
        files.write(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path, model: Path | None = None) -> "Voice":
        """Read a voice.

        SettingsError if it is damaged, or belongs to another model than this one (default: the shipped).
        """
        try:
            voice = _ADAPTER.validate_json(read_bytes(path))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise SettingsError(f"{path}: is not a voice, or is damaged; enrol again") from error
        if voice.model_sha256 != model_sha256(model):
            raise SettingsError(f"{path}: was learned with another model; enrol again with this one")
        return voice


_ADAPTER = TypeAdapter(Voice)


def model_sha256(model: Path | None = None) -> str:
    """Of a model's file, by default the shipped one, as it was before it got a second stage.

    Voices are learned with the first stage alone, so they outlive a new second stage. SettingsError if it cannot be
    read.
    """
    path = model or shipped_model_path()
    try:
        content = read_bytes(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        notes = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    except Exception:  # noqa: BLE001 protobuf's, which is no dependency; `Head` says what is wrong
        notes = {}
    return notes.get(FIRST) or sha256(content).hexdigest()
