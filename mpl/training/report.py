"""A run: where and how long, how far it is, its log, loss curves and model card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data import VideoData
from .options import LABELLED

if TYPE_CHECKING:
    from .task import Task

PROJECT = Path(__file__).resolve().parents[2]
HISTORY = "history.json"
LONGEST_DRAW = 60.0  # seconds of drawing a batch that count: what takes longer was paused


@dataclass(frozen=True)
class Run:
    """Where and how long a training runs."""

    out: Path  # component folder the EMA weights are written to
    work: Path  # state, logs, curves, samples
    minutes: float
    seed: int = 0
    sample_every: float = 10.0  # minutes
    save_every: float = 5.0  # minutes
    max_steps: int | None = None  # ends earlier than the budget; for tests
    fresh: bool = False  # forgets what earlier starts left in `work`
    preset: str = "storybook"  # for the card, as the next two
    init_from: Path | None = None
    places: str = ""  # the options that say where files are, as they were typed


@dataclass
class Progress:
    """What must survive a kill beside weights and optimisers."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0  # spent in this training over all its starts
    init_from: str | None = None
    lineage: list[dict[str, Any]] = field(default_factory=list)  # runs that made the weights this one began with

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without what a kill cut off in mid-line; [] where there is no log."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def cut_log(path: Path, step: int) -> None:
    """Drops the rows after `step`: a run that goes on from there logs those steps again."""
    rows = {row["step"]: row for row in read_log(path) if row["step"] <= step}
    if path.is_file():
        fresh = path.with_name(path.name + ".new")
        fresh.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
        fresh.replace(path)


def draw_curves(log: Path, path: Path, title: str) -> None:
    """Draws every logged loss over minutes, smoothed over about a fiftieth of the run, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read_log(log)
    figure, axes = plt.subplots(figsize=(7, 4), dpi=110)
    window = max(1, len(rows) // 50)
    for key in curve_keys(rows):
        points = [(r["minutes"], r[key]) for r in rows if key in r and math.isfinite(r[key])]
        smooth = [
            (
                points[i][0],
                sum(v for _, v in points[max(0, i - window) : i + 1]) / (i - max(0, i - window) + 1),
            )
            for i in range(0, len(points), max(1, window // 2))
        ]
        if smooth:
            axes.plot(*zip(*smooth, strict=True), label=key)
    axes.set(xlabel="minutes", title=title, yscale="log")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def curve_keys(rows: list[dict[str, Any]]) -> list[str]:
    """The losses that any row has, in order of appearance: not every step has a sample of every kind."""
    return list(dict.fromkeys(key for row in rows for key in row if "loss" in key))


def trace(task: Task, init_from: Path | None) -> list[dict[str, Any]]:
    """The runs that made the weights a task begins with, oldest first; [] where nothing is said of them.

    Each row names its model: weights go from one to another by the preset's `start`.
    """
    name, folder = task.options.name, init_from and task.home(init_from)
    if folder is None and task.options.start:
        name, folder = task.options.start, task.assets / task.options.start
    path = folder and folder / HISTORY
    rows = json.loads(path.read_text()) if path and path.is_file() else []
    return [{"model": name, **row} for row in rows]


def write_card(folder: Path, task: Task, progress: Progress, run: Run) -> None:
    """README.md of a component: what it is, its data, its figures, and the command that makes it again.

    Its table has a row for each run that the weights went through: those before `--init-from`, those of the model that
    the preset starts from, and this one.
    """
    rows = read_log(run.work / "log.jsonl")
    tail = [row["loss"] for row in rows[-max(1, len(rows) // 20) :]]
    drawing = sum(min(LONGEST_DRAW, row.get("draw_seconds", 0.0)) for row in rows) / max(1e-9, progress.seconds)
    row = {
        "model": task.options.name,
        "steps": progress.step,
        "samples": progress.samples,
        "minutes": round(progress.seconds / 60, 1),
        "loss": round(sum(tail) / len(tail), 5) if tail else None,
        "drawing's share of the time": round(drawing, 3),
        **task.figures(),
        "command": _command(task, progress, run),
    }
    runs = [*progress.lineage, row]
    (folder / HISTORY).write_text(json.dumps(runs, indent=1) + "\n")
    (folder / "README.md").write_text(
        "\n".join([*_head(task, progress, run), "", *_table(runs), *_commands(runs)]) + "\n"
    )


def _head(task: Task, progress: Progress, run: Run) -> list[str]:
    data = task.options.data
    name, own_data, preset = task.options.name, data.folder or data.shards, _preset(run)
    parameters = sum(p.numel() for p in task.model.parameters())
    source = f"`presets/training/{preset}.toml`" if not preset.endswith(".toml") else f"`{preset}`"
    return [
        "---",
        f"license: {'other' if own_data else 'apache-2.0'}",
        f"tags: [text-to-video, mpl-video, {Path(preset).stem}]",
        "---",
        f"# MPL-Video {Path(preset).stem}: {name}",
        "",
        f"`{task.stored}`, {parameters / 1e6:.2f} million parameters trained, stored as bfloat16.",
        "",
        f"- **Data**: {_data_note(task)}",
        "- **Licence**: "
        + ("that of the data, and of the weights it began with." if own_data else "Apache-2.0, like the code."),
        *_start_note(task, progress),
        f"- **Settings**: of the last run, the block of this name in {source}.",
    ]


def _preset(run: Run) -> str:
    """A preset by its name (`ablations/latent`), a file without where it lies."""
    return Path(run.preset).name if run.preset.endswith(".toml") else run.preset


def _command(task: Task, progress: Progress, run: Run) -> str:
    """What to type for this run, once the weights that it began with are there."""
    name = task.options.name
    preset = shown_path(Path(run.preset)) if run.preset.endswith(".toml") else run.preset
    command = f"python -m mpl train {name} --preset {preset} --minutes {run.minutes:g} --seed {run.seed}"
    if name == "translation":
        command += f" --cap {task.options.loss.cap}"
    if run.max_steps not in (None, task.options.steps):
        command += f" --max-steps {run.max_steps}"
    if progress.init_from:
        command += f" --init-from {progress.init_from}"
    return f"{command} {run.places}".rstrip()


def _data_note(task: Task) -> str:
    if isinstance(task.data, VideoData):
        return (
            f"videos with captions, {task.data.source}: {len(task.data.entries)} to learn from, "
            f"{len(task.heldout.entries)} held out."
        )
    split = "Split `train`: the held-out attribute combinations are never seen."
    if task.options.name in LABELLED and task.options.name != "text":
        split = "All attribute combinations: it is the oracle of evaluation, and nothing that generates learns from it."
    return (
        "scenes of `mpl/storybook`, drawn at random by the training itself; no images, videos or texts by\n"
        f"  anyone else. {split}"
    )


def _start_note(task: Task, progress: Progress) -> list[str]:
    """What models the weights went through before they became this one's, and how long those were trained."""
    models: dict[str, list[dict[str, Any]]] = {task.options.start: []} if task.options.start else {}
    for row in progress.lineage:
        models.setdefault(row.get("model", task.options.name), []).append(row)
    models.pop(task.options.name, None)
    said = []
    for name, rows in models.items():
        runs, minutes, samples = len(rows), sum(r["minutes"] for r in rows), sum(r["samples"] for r in rows)
        known = f"{runs} run{'s' * (runs > 1)}, {minutes:g} minutes, {samples} samples: the table's first rows"
        said.append(f"{name} ({known})" if rows else f"{name} (its training is not told)")
    return [f"- **Starts from**: {'; '.join(said)}"] if said else []


def _table(runs: list[dict[str, Any]]) -> list[str]:
    main = ("model", "steps", "samples", "minutes", "loss")
    apart = (*main, "command")
    lines = [
        "| run | model | steps | samples | minutes | loss (mean of the last 5 %) | other figures |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(runs, 1):
        others = ", ".join(f"{k} {v}" for k, v in row.items() if k not in apart) or "–"
        cells = " | ".join(str("–" if row.get(k) is None else row[k]) for k in main)
        lines.append(f"| {number} | {cells} | {others} |")
    return lines


def _commands(runs: list[dict[str, Any]]) -> list[str]:
    """The command of every run that knows its own, to be typed one after another."""
    known = [f"{number}. `{row['command']}`" for number, row in enumerate(runs, 1) if "command" in row]
    return ["", "Commands, by run; each began with the weights of the run before it:", "", *known]


def shown_path(path: Path) -> str:
    """A path for a card: inside the project or the current folder as it is there, elsewhere its last two parts."""
    for root in (PROJECT, Path.cwd()):
        if path.resolve().is_relative_to(root):
            return path.resolve().relative_to(root).as_posix()
    return "/".join(path.parts[-2:])
