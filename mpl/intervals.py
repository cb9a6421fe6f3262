"""Shares with their intervals: counts in, numbers out. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A count of successes with its 95 % interval; a success may be counted by half."""

    right: float
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927) at 95 %, (low, high) in [0, 1]."""
        if not self.of:
            return math.nan, math.nan
        z = 1.959964
        center = self.value + z * z / (2 * self.of)
        spread = z * math.sqrt(self.value * (1 - self.value) / self.of + z * z / (4 * self.of**2))
        scale = 1 + z * z / self.of
        return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)

    def as_dict(self) -> dict[str, float | int | None]:
        """Counts, share and interval for a report; of nothing, there is no share (None: JSON has no NaN)."""
        figures = {"share": self.value, "low": self.interval[0], "high": self.interval[1]}
        return {"right": self.right, "of": self.of} | {
            k: round(v, 4) if math.isfinite(v) else None for k, v in figures.items()
        }
