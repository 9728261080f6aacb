"""What an operator signs of a wake-word model, so that devices take no other. No I/O."""

import json
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contract.errors import MessageError
from contract.messages import first_fault

MAX_MODEL_BYTES = 8 * 1024 * 1024
MAX_GOLDEN_BYTES = 1024 * 1024
MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """A model and the sound that it must recognise.

    Attributes:
        name: of the model, as devices report it.
        sha256, size: of the model's file.
        golden, golden_size: the same of a WAV file with one wake word in it.
        score: the model's highest score of that sound.
        threshold: the score that counts as the wake word, as the model advises.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME}$")]
    sha256: Sha256
    size: Annotated[int, Field(gt=0, le=MAX_MODEL_BYTES)]
    golden: Sha256
    golden_size: Annotated[int, Field(gt=0, le=MAX_GOLDEN_BYTES)]
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(gt=0, le=1)]

    def text(self) -> str:
        """What is signed."""
        return json.dumps(self.model_dump(), separators=(",", ":"), sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """The manifest in a signed text; raises MessageError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise MessageError(f"the manifest of the model is invalid: {first_fault(error)}") from None
