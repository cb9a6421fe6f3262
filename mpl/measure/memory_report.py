"""What `python -m mpl memory` says: tables for people, and the same as one JSON object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mpl.config import Preset, differences, toml_value
from mpl.measure.choose import Variant
from mpl.measure.estimates import Estimates
from mpl.measure.plan import CONTEXT_GB, MARGIN, Plan, State
from mpl.measure.table4 import PAPER, Row
from mpl.parts import PARTS


def figures(plan: Plan) -> dict[str, Any]:
    """The plan for `--json`; every figure is in GB."""
    stages: dict[str, Any] = {}
    for state in plan.states:
        stage = stages.setdefault(state.moment.stage, {"peak_gpu_gb": 0.0, "peak_host_gb": 0.0, "moments": []})
        stage["peak_gpu_gb"] = max(stage["peak_gpu_gb"], _gb(state.gpu))
        stage["peak_host_gb"] = max(stage["peak_host_gb"], _gb(state.host))
        stage["moments"].append(_moment(state))
    return {
        "preset": plan.preset.name,
        "peak_gpu_gb": _gb(plan.peak_gpu),
        "peak_host_gb": _gb(plan.peak_host),
        "stages": stages,
        "moved_seconds": round(plan.moved, 2),
        "left_out": {"context_gb": CONTEXT_GB, "margin": MARGIN},
    }


def choice_figures(before: Preset, plan: Plan) -> dict[str, Any]:
    """The settings that a plan was chosen with, where they are not the preset's."""
    return {key: value for key, (_, value) in differences(before, plan.preset).items()}


def plan_lines(plan: Plan, title: str) -> list[str]:
    """Every moment of the plan, what is on the device beside the model at work, and the peaks."""
    head = ("stage", "model", "what it does", "weights", "activations", "GPU", "main memory", "models beside it")
    body = []
    for state in plan.states:
        m = state.moment
        sizes = (m.weights, m.activations, state.gpu, state.host)
        also = ", ".join(f"{name} {_shown(size)}" for name, size in state.resident.items()) or "nothing"
        body.append((m.stage, m.model, m.work, *map(_shown, sizes), also))
    peaks = f"peaks: GPU {_shown(plan.peak_gpu)}, main memory {_shown(plan.peak_host)}"
    moved = f"models are read and moved for {plan.moved:.1f} s a video" if plan.moved else "no model moves"
    return [title, *table(head, body), f"{peaks}; {moved}"]


def variant_lines(ways: dict[str, list[Variant]]) -> list[str]:
    """What each stage needs beside the weights with every setting."""
    body = []
    for way in (way for group in ways.values() for way in group):
        said = ", ".join(f"{key} = {_toml(value)}" for key, value in way.changes.items()) or "(nothing to set)"
        needs = ", ".join(f"{model} {_shown(size)}" for model, size in way.activations.items())
        body.append((said, needs, f"{way.seconds:.1f} s"))
    return ["settings of the stages", *table(("settings", "activations", "overhead of calls"), body)]


def policy_lines(plans: Iterable[Plan]) -> list[str]:
    """Where models are kept and how T5 is held, the stages' settings as they are."""
    body = []
    for plan in plans:
        w = plan.preset.weights
        peaks = (_shown(plan.peak_gpu), _shown(plan.peak_host))
        body.append((w.quantization, w.offload, *peaks, f"{plan.moved:.1f} s"))
    head = ("weights.quantization", "weights.offload", "GPU", "main memory", "read and moved, a video")
    return ["weights", *table(head, body)]


def choice_lines(asked: str, before: Preset, plan: Plan, vram_gb: float) -> list[str]:
    """The settings, as a preset that `--preset FILE.toml` takes: what differs from `before`, which `asked` names."""
    changed = differences(before, plan.preset)
    lines = [f"the fastest plan for {vram_gb:g} GB: {'' if changed else 'the preset as it is'}".rstrip()]
    if changed:
        base = str(Path(asked).absolute()) if asked.endswith(".toml") else asked  # these lines may be put anywhere
        lines += [f"extends = {_toml(base)}", f"name = {_toml(f'{before.name}-{vram_gb:g}gb')}"]
    blocks: dict[str, list[str]] = {}
    for key, (old, new) in changed.items():
        block, _, name = key.rpartition(".")
        blocks.setdefault(block, []).append(f"{name} = {_toml(new)}  # {before.name}: {_toml(old)}")
    for block, keys in blocks.items():
        lines += [f"[{block}]", *keys] if block else keys
    return lines


def table4_figures(rows: Iterable[Row]) -> list[dict[str, Any]]:
    sizes = ("weights", "activations", "peak")
    return [{"kind": r.kind, "what": r.what} | {f"{s}_gb": _gb(getattr(r, s)) for s in sizes} for r in rows]


def table4_lines(rows: Iterable[Row]) -> list[str]:
    body = [(r.kind, r.what, _shown(r.weights), _shown(r.activations), _shown(r.peak)) for r in rows]
    paper = ", ".join(f"{kind} {value} GB" for kind, value in PAPER.items())
    title = f"the last stage in pixels and in latents, alone (the paper's Table 4: {paper})"
    return [title, *table(("", "", "weights", "activations", "peak"), body)]


def assumed_lines(estimates: Estimates, plan: Plan) -> list[str]:
    """What the estimate rests on."""
    format_name = str(estimates.dtype).removeprefix("torch.")
    counted = ""
    if estimates.options.dtype == "auto" and format_name == "float16":
        counted = " (weights.dtype = auto: a GPU without bfloat16, where T5 takes more)"
    lines = [
        f"{format_name}{counted}; GB are 10^9 bytes; estimated with fake tensors, every size from the models' configs",
        f"left out of a GPU's figures: its driver's {CONTEXT_GB:g} GB, and libraries' workspaces, fragmentation and "
        f"error, for which --vram leaves {MARGIN:.0%} free",
    ]
    for name in dict.fromkeys(state.moment.model for state in plan.states):
        if assumed := estimates.structure(name).assumed:
            lines.append(f"assumed of weights.{PARTS[name].option}: {assumed}")
    return lines


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns; those of figures to the right."""
    wide = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    right = [all(row[i][:1].isdigit() for row in body) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, wide, right, strict=True))
        return ("  " + "  ".join(cells)).rstrip()

    return [line(head), *map(line, body)]


def _moment(state: State) -> dict[str, Any]:
    m = state.moment
    sizes = {"weights": m.weights, "activations": m.activations, "peak_gpu": state.gpu, "peak_host": state.host}
    return {"model": m.model, "work": m.work, "resident": sorted(state.resident)} | {
        f"{name}_gb": _gb(size) for name, size in sizes.items()
    }


def _gb(size: float) -> float:
    return round(size / 1e9, 3)


def _shown(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _toml(value: Any) -> str:
    return toml_value("" if value is None else value)  # no model, as a file says it
