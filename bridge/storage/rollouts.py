"""Rows of wake-word models and their rollouts, and the interface of their storage."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bridge.storage.records import Audit, By

RolloutState = Literal["running", "paused", "stopped", "done"]
"""`stopped`: its devices go back."""
DeviceProgress = Literal["asked", "running", "failed", "kept", "returning", "returned"]
"""`kept`: the device keeps its own model for a reason of its own. `returning`: it is to go back."""

KEPT_MODELS = 50
OWN = ""
"""Stands for the model that a device has by itself: that of its settings, or the shipped one."""


@dataclass(frozen=True, slots=True)
class Model:
    """A signed model; its bytes are read apart."""

    sha256: str
    name: str
    manifest: str
    signature: str
    golden_sha256: str
    added_at: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """A model on its way to devices.

    Attributes:
        model: its SHA-256.
        tag: of the devices that are meant; "" for all.
        stages: shares of the devices in percent, with commas.
        pause_s: how long each stage is watched before the next.
        most_failures: it stops with this number of failed devices.
        stage: from 0.
        settled_at: Unix time since when all devices of the stage that are there have answered.
        reason: why it was stopped.
        began_at: ISO 8601.
    """

    number: int
    model: str
    tag: str
    stages: str
    pause_s: float
    most_failures: int
    state: RolloutState
    stage: int
    settled_at: float | None
    reason: str
    began_at: str

    @property
    def shares(self) -> list[float]:
        """The stages."""
        return [float(one) for one in self.stages.split(",")]


@dataclass(frozen=True, slots=True)
class RolloutDevice:
    """What a device did in a rollout.

    Attributes:
        stage: in which it was chosen.
        before: SHA-256 of the model to which it goes back; OWN for its own.
        asked: how often the newest request was sent; `asked_at`: when last, Unix time.
        watched: wakes and near-misses an hour as it told them last, for people.
    """

    rollout: int
    device_id: str
    stage: int
    state: DeviceProgress = "asked"
    reason: str = ""
    before: str = OWN
    asked: int = 0
    asked_at: float | None = None
    watched: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device on MQTT that may get a model."""

    device_id: str
    tags: frozenset[str]


def line_of(number: int, text: str, at: str, by: By) -> Audit:
    """A line of the audit about a rollout."""
    return Audit(at, "rollout", "", "", "", f"{number}: {text}", by.actor, by.address, by.via, by.note)


class RolloutStore(Protocol):
    """The storage of models and rollouts; every verb raises StoreError."""

    async def models(self) -> Sequence[Model]:
        """All models, the oldest first."""
        ...

    async def blob(self, sha256: str) -> bytes | None:
        """A model's file, or its golden sound, by its SHA-256."""
        ...

    async def add_model(self, model: Model, data: bytes, golden: bytes) -> None:
        """Keep a model."""
        ...

    async def rollouts(self) -> Sequence[Rollout]:
        """All rollouts, the oldest first."""
        ...

    async def devices_of(self, number: int) -> Mapping[str, RolloutDevice]:
        """What devices did in a rollout, by their names."""
        ...

    async def candidates(self) -> Sequence[Candidate]:
        """The devices on MQTT that were not removed, by name."""
        ...

    async def begin(self, rollout: Rollout, line: Audit) -> None:
        """Write a new rollout."""
        ...

    async def save(
        self, before: Rollout, after: Rollout, devices: Collection[RolloutDevice], lines: Collection[Audit]
    ) -> bool:
        """Write a rollout and what its devices did; nothing, and False, if another has changed its state meanwhile."""
        ...
