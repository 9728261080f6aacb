"""Decides on the audio clock which scores are a trigger; without I/O."""

from dataclasses import dataclass

from contract.errors import SettingsError

# Sums of frame durations are not exact in binary: 2 s must not become 2.08 s by rounding.
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class GateSettings:
    """When scores count; raises SettingsError for a value that no stream could satisfy.

    Attributes:
    threshold: lowest score that counts, above 0 and at most 1; each model advises its own.
    patience: how many consecutive frames must reach the threshold.
    refractory_s: how long no score counts after a trigger, in seconds of audio.
    """

    threshold: float = 0.5
    patience: int = 2
    refractory_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise SettingsError(f"The threshold must be above 0 and at most 1, not {self.threshold}")
        if self.patience < 1:
            raise SettingsError(f"The patience must be at least 1 frame, not {self.patience}")
        if not self.refractory_s >= 0.0:
            raise SettingsError(f"The refractory time must be 0 s or more, not {self.refractory_s}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """The wake word was recognised.

    Attributes:
    at_s: end of the frame that completed the run, in seconds of audio.
    score: the highest score of that run.
    """

    at_s: float
    score: float


class Gate:
    """Patience, refractory time and re-arming for one stream of scores."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self._armed = True
        self._deaf_until_s = float("-inf")
        self._run: list[float] = []

    @property
    def settings(self) -> GateSettings:
        """When scores count."""
        return self._settings

    def adjust(self, settings: GateSettings) -> None:
        """Apply other settings from the next score on; refractory time and arming stay."""
        self._settings = settings
        self._run.clear()

    def feed(self, score: float | None, at_s: float) -> Trigger | None:
        """A trigger if this frame completes a run; None for a score ends a run, and `at_s` never decreases.

        After a trigger the gate arms again with the first score below half the threshold, even while refractory.
        """
        if score is not None and score < self._settings.threshold / 2.0:
            self._armed = True
        if not self._counts(score, at_s) or score is None:
            self._run.clear()
            return None
        self._run.append(score)
        if len(self._run) < self._settings.patience:
            return None
        return self._fire(at_s)

    def _counts(self, score: float | None, at_s: float) -> bool:
        return (
            score is not None
            and score >= self._settings.threshold
            and self._armed
            and at_s >= self._deaf_until_s - _ROUNDING_S
        )

    def _fire(self, at_s: float) -> Trigger:
        trigger = Trigger(at_s=at_s, score=max(self._run))
        self._armed = False
        self._deaf_until_s = at_s + self._settings.refractory_s
        self._run.clear()
        return trigger
