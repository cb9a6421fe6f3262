"""What the form asks for: its values, checked, become a prompt, a preset and a seed. Knows no toolkit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpl.config import STAGES, Preset, get, load_preset, override, preset_names
from mpl.limits import check_prompt, check_seed

SLIDERS = ("translation.strength", "translation.cap", "superres.snr")
FOLDED = tuple(f"{stage}.{key}" for stage in STAGES for key in ("steps", "guidance"))
KNOBS = SLIDERS + FOLDED  # keys of a preset that the form can change
SNR_SHOWN = (0.1, 30.0)  # what the slider spans; 30 is as good as no noise


@dataclass(frozen=True)
class Ask:
    """A run that was asked for, with nothing left to check but its weights."""

    prompt: str
    preset: Preset
    seed: int


class Presets:
    """The presets that the form offers: the one that the server was started with, and the named ones."""

    def __init__(self, first: Preset) -> None:
        self.first = first
        self.names = [first.name, *(name for name in preset_names() if name != first.name)]

    def get(self, name: Any) -> Preset:
        """A preset by its name; files by their path are for the command line alone.

        Raises:
            ValueError: no such name, or its file is broken.
        """
        if name == self.first.name:
            return self.first
        if name not in self.names:
            raise ValueError(f"preset {name!r}: must be one of {', '.join(self.names)}")
        return load_preset(name)


def read(prompt: Any, seed: Any, preset: Preset, values: Mapping[str, Any]) -> Ask:
    """What the form asks for.

    Args:
        values: keys of `KNOBS` → numbers as a browser sends them: whole ones may be floats, an empty field is None.

    Raises:
        ValueError: one line on what is wrong and what would be accepted.
    """
    prompt = check_prompt(prompt)
    seed = check_seed(_number(seed))
    return Ask(prompt, override(preset, {key: _number(value) for key, value in values.items()}), seed)


def knobs(preset: Preset) -> dict[str, Any]:
    """What the form shows for a preset: `KNOBS` → numbers, and `no_noise`, where the slider stands at its end."""
    values = {key: get(preset, key) for key in KNOBS}
    no_noise = math.isinf(values["superres.snr"])
    if no_noise:
        values["superres.snr"] = SNR_SHOWN[1]
    return {**values, "no_noise": no_noise}


def example_prompts() -> list[str]:
    """Prompts to begin with, in words that the embedded models know."""
    path = Path(__file__).parent / "examples.txt"
    return path.read_text(encoding="utf-8").splitlines()


def _number(value: Any) -> Any:
    if value is None:
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else value
