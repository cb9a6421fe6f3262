"""What the form asks for: its values, checked, become an `Ask`, a link, and back again. Knows no toolkit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mpl.checkpoints import locate
from mpl.config import STAGES, Preset, differences, from_dict, get, load_preset, override, preset_names
from mpl.engine import Ask
from mpl.limits import check_prompt, check_seed, shown

SLIDERS = ("translation.strength", "translation.cap", "superres.snr")
FOLDED = tuple(f"{stage}.{key}" for stage in STAGES for key in ("steps", "guidance"))
KNOBS = SLIDERS + FOLDED  # keys of a preset that the form can change
SNR_SHOWN = (0.1, 30.0)  # what the slider spans; 30 is as good as no noise
LINKED = ("prompt", "seed", "preset", *KNOBS)  # keys of a link's query
FIELDS = ("prompt", "seed", "preset", "no_noise", *KNOBS)  # what a link carries and a recipe restores


class Presets:
    """The presets that the form offers: the one that the server was started with, and the named ones.

    Arms of ablations are among them where their weights are: nobody else could have trained them. With `max_steps` no
    stage may take more, so that one visitor does not keep all others waiting.
    """

    def __init__(self, first: Preset, max_steps: int | None = None) -> None:
        """Raises ValueError where `first` takes more steps itself."""
        self.first, self.max_steps = first, max_steps
        self._check_steps(first)
        self.names = [first.name, *(name for name in preset_names() if name != first.name and self._has_room(name))]

    def get(self, name: Any) -> Preset:
        """A preset by its name, without one the first; files by their path are for the command line alone.

        Raises:
            ValueError: no such name, or its file is broken.
        """
        if name in (None, "", self.first.name):
            return self.first
        if name not in self.names:
            raise ValueError(f"preset {shown(name)}: must be one of {', '.join(self.names)}")
        return replace(load_preset(name), name=name)  # not as its file calls it, by which nobody would find it

    def changed(self, name: Any, values: Mapping[str, Any]) -> Preset:
        """A preset with other numbers: keys of `KNOBS` → numbers as a browser sends them.

        Raises:
            ValueError: as `get`; a number that is not accepted, or more steps than `max_steps`.
        """
        preset = override(self.get(name), {key: _number(value) for key, value in values.items()})
        self._check_steps(preset)
        return preset

    def _has_room(self, name: str) -> bool:
        return _is_here(name) and not _too_many_steps(load_preset(name), self.max_steps)

    def _check_steps(self, preset: Preset) -> None:
        for key, steps in _too_many_steps(preset, self.max_steps).items():
            raise ValueError(f"{key} = {steps}: no stage may take more than {self.max_steps} steps here (--max-steps)")


def _too_many_steps(preset: Preset, most: int | None) -> dict[str, int]:
    """Which stages of a preset take more steps than that, and how many; None bounds nothing."""
    stages = (*STAGES[:-1], "upsampling" if preset.weights.upsampling else STAGES[-1])
    steps = {f"{stage}.steps": get(preset, f"{stage}.steps") for stage in stages}
    return {key: count for key, count in steps.items() if most is not None and count > most}


def _is_here(name: str) -> bool:
    """Whether a preset is no ablation's, or its weights are on this machine; a training makes their folder early."""
    if not name.startswith("ablations/"):
        return True
    sources = asdict(load_preset(name).weights).values()
    folders = [locate(source) for source in sources if str(source).startswith("assets/")]
    return all(folder and any(folder.rglob("*.safetensors")) for folder in folders)


def read(prompt: Any, seed: Any, presets: Presets, name: Any, values: Mapping[str, Any], **run: Any) -> Ask:
    """What the form asks for.

    Args:
        name: of one of the presets.
        values: keys of `KNOBS` → numbers as a browser sends them: whole ones may be floats, an empty field is None.
        run: further fields of `Ask`.

    Raises:
        ValueError: one line on what is wrong and what would be accepted.
    """
    prompt = check_prompt(prompt)
    seed = check_seed(_number(seed))
    return Ask(prompt, presets.changed(name, values), seed, **run)


def read_form(form: Mapping[str, Any], presets: Presets, **run: Any) -> Ask:
    """As `read`, from the values of a whole form: `FIELDS`, and `source` with `start_at` where a video is given."""
    values = {key: form[key] for key in KNOBS}
    if form["no_noise"]:
        values["superres.snr"] = math.inf
    if form.get("source"):
        start_at = form.get("start_at")
        if start_at not in STAGES[1:]:
            raise ValueError(f"stage {shown(start_at)}: must be one of {', '.join(STAGES[1:])}")
        run |= {"start_at": start_at, "source": Path(form["source"]), "source_name": "a video given on the page"}
    return read(form["prompt"], form["seed"], presets, form["preset"], values, **run)


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


# ---- links and recipes


def link(form: Mapping[str, Any], presets: Presets) -> str:
    """The query of an address that sets the form as it is: prompt, seed, and what differs from the preset's own.

    Raises:
        ValueError: as `read`.
    """
    ask = read_form(form | {"source": None}, presets)
    query: dict[str, Any] = {"prompt": ask.prompt, "seed": ask.seed}
    if ask.preset.name != presets.first.name:
        query["preset"] = ask.preset.name
    changed = differences(presets.get(form["preset"]), ask.preset)
    return "?" + urlencode(query | {key: value for key, (_, value) in changed.items()})


def followed(query: Mapping[str, str], presets: Presets) -> dict[str, Any]:
    """The form's values that a link's query carries: `FIELDS` → values; nothing where it carries none of them.

    Raises:
        ValueError: as `read`.
    """
    if not query.keys() & {*LINKED}:  # others are the toolkit's
        return {}
    own = {key: query[key] for key in KNOBS if key in query}
    ask = read(query.get("prompt", example_prompts()[0]), query.get("seed", 0), presets, query.get("preset"), own)
    return {"prompt": ask.prompt, "seed": ask.seed, "preset": ask.preset.name, **knobs(ask.preset)}


def restored(recipe: Mapping[str, Any], presets: Presets) -> tuple[dict[str, Any], str]:
    """The form as it was for a recipe: `FIELDS` → values, and what the form has no knob for, in words.

    Raises:
        ValueError: no recipe of this project, or values that are not accepted.
    """
    try:
        preset = from_dict(recipe["preset"])
        prompt, seed = check_prompt(recipe["prompt"]), check_seed(recipe["seed"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError("This video holds no recipe of this project.") from None
    name = _offered(preset.name, presets)
    base = presets.get(name)
    values = {"prompt": prompt, "seed": seed, "preset": base.name, **knobs(preset)}
    other = [key for key in differences(base, preset) if key not in KNOBS]
    notes = [] if name else [f"its preset {shown(preset.name)} is not on this server, {base.name} takes its place"]
    if other:
        notes.append(f"the page has no knob for {', '.join(other)}, which stay as in {base.name}")
    if recipe.get("source"):
        notes.append("it began from a given video, which a recipe does not hold")
    return values, "Every knob is set as it was" + (", but " + "; ".join(notes) if notes else "") + "."


def _offered(name: str, presets: Presets) -> str:
    """The name that a recipe's preset is offered by, empty where it is not: ablations' files leave out their folder."""
    return next((known for known in (name, f"ablations/{name}") if known in presets.names), "")


def _number(value: Any) -> Any:
    if value is None:
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else value
