"""Exact confidence intervals: what a count of few events really says."""

from dataclasses import dataclass

from scipy.stats import beta, chi2

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `tries`, with its Clopper-Pearson interval."""

    hits: int
    tries: int

    @property
    def value(self) -> float:
        """0 to 1; NaN of nothing."""
        return self.hits / self.tries if self.tries else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest share that fit, both from 0 to 1."""
        tail = (1 - CONFIDENCE) / 2
        low = float(beta.ppf(tail, self.hits, self.tries - self.hits + 1)) if self.hits else 0.0
        high = float(beta.ppf(1 - tail, self.hits + 1, self.tries - self.hits)) if self.hits < self.tries else 1.0
        return low, high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({self.hits}/{self.tries}; {low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class Rate:
    """`events` in `hours`, with its exact Poisson interval."""

    events: int
    hours: float

    @property
    def value(self) -> float:
        """Per hour."""
        return self.events / self.hours if self.hours else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest rate per hour that fit."""
        if not self.hours:
            return 0.0, float("inf")
        tail = (1 - CONFIDENCE) / 2
        low = float(chi2.ppf(tail, 2 * self.events)) / 2 if self.events else 0.0
        return low / self.hours, float(chi2.ppf(1 - tail, 2 * self.events + 2)) / 2 / self.hours

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f}/h ({self.events} in {self.hours:.1f} h; {low:.2f} to {high:.2f})"
