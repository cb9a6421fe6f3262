"""Loss curves and model cards."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loop import Progress, Run
    from .task import Task


def draw_curves(log: Path, path: Path, title: str) -> None:
    """Draws every logged loss over minutes, smoothed over about a fiftieth of the run, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    keys = [k for k in rows[-1] if "loss" in k]
    figure, axes = plt.subplots(figsize=(7, 4), dpi=110)
    window = max(1, len(rows) // 50)
    for key in keys:
        points = [(r["minutes"], r[key]) for r in rows if key in r and math.isfinite(r[key])]
        smooth = [
            (
                points[i][0],
                sum(v for _, v in points[max(0, i - window) : i + 1]) / (i - max(0, i - window) + 1),
            )
            for i in range(0, len(points), max(1, window // 2))
        ]
        axes.plot(*zip(*smooth, strict=True), label=key)
    axes.set(xlabel="minutes", title=title, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def write_card(folder: Path, task: Task, progress: Progress, run: Run) -> None:
    """README.md of a component: what it is, its data, its figures, and the command that makes it again."""
    rows = [json.loads(line) for line in (run.work / "log.jsonl").read_text().splitlines()]
    tail = rows[-max(1, len(rows) // 20) :]
    loss = sum(r["loss"] for r in tail) / len(tail)
    parameters = sum(p.numel() for p in task.model.parameters())
    history = folder / "history.json"
    past = json.loads(history.read_text()) if history.is_file() else []
    past.append(
        {
            "steps": progress.step,
            "samples": progress.samples,
            "minutes": round(progress.seconds / 60, 1),
            "loss": round(loss, 5),
            **task.figures(),
        }
    )
    history.write_text(json.dumps(past, indent=1) + "\n")
    name = task.options.name
    lines = [
        "---",
        "license: apache-2.0",
        "tags: [text-to-video, mpl-video, storybook]",
        "---",
        f"# MPL-Video storybook: {name}",
        "",
        f"`{type(task.model).__name__}`, {parameters / 1e6:.2f} million parameters, stored as bfloat16.",
        "",
        "- **Data**: scenes of `mpl/storybook`, drawn at random by the training itself; no images, videos or texts by",
        "  anyone else. " + _split_note(name),
        "- **Licence**: Apache-2.0, like the code.",
        f"- **Command**: `python -m mpl train {name} --preset storybook --minutes {run.minutes:g}`"
        + (" (`--init-from` the weights before, for every row after the first)" if len(past) > 1 else ""),
        "- **Settings**: the block of this name in `presets/training/storybook.toml`.",
        "",
        "| run | steps | samples | minutes | loss (mean of the last 5 %) | other figures |",
        "|---|---|---|---|---|---|",
    ]
    for i, row in enumerate(past, 1):
        rest = {k: v for k, v in row.items() if k not in ("steps", "samples", "minutes", "loss")}
        others = ", ".join(f"{k} {v}" for k, v in rest.items()) or "–"
        lines.append(f"| {i} | {row['steps']} | {row['samples']} | {row['minutes']} | {row['loss']} | {others} |")
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def _split_note(name: str) -> str:
    if name.startswith("judge"):
        return "All attribute combinations: it is the oracle of evaluation, and nothing that generates learns from it."
    return "Split `train`: the held-out attribute combinations are never seen."
