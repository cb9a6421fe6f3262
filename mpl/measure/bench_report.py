"""What `python -m mpl bench` says to people: the machine, and one table for each part."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# Flags of /proc/cpuinfo that decide how fast a number format is.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd")
Rows = Iterator[Sequence[Any]]


def machine_figures(device: torch.device) -> dict[str, Any]:
    """What figures depend on besides the program."""
    said = _cpuinfo()
    flags = set(said.get("flags", said.get("Features", "")).split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": said.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "flags": [flag for flag in FLAGS if flag in flags],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def lines(said: Mapping[str, Any]) -> list[str]:
    """All that was measured, as lines; `said` is what the JSON file holds."""
    blocks = [_head(said)]
    if "stages" in said:
        blocks.append(_stages(said, said["preset"]["name"]))
    if "other" in said:
        blocks += [_stages(said["other"], said["other"]["name"]), _ratio(said["ratio"])]
    if "forward" in said:
        blocks.append(_forward(said["forward"], said["preset"]["name"]))
        if "forward" in said.get("other", {}):
            blocks.append(_forward(said["other"]["forward"], said["other"]["name"]))
    if "peak" in said:
        blocks.append(_peak(said["peak"]))
    if "scaling" in said:
        blocks.append(_scaling(said["scaling"]))
    if "compile" in said:
        blocks.append(_compiled(said["compile"]))
    if "loading" in said:
        rows = [(name, _number(f["seconds"], 3), _number(f["bytes"] / 1e6, 1)) for name, f in said["loading"].items()]
        blocks.append(["models from disk", *table(("model", "s", "MB"), rows)])
    if "app" in said:
        app = said["app"]
        peak = _number(app["peak_memory_gb"], 2)
        blocks.append([f"app.py answers after {app['seconds']:.2f} s, having held {peak} GB at most"])
    return [line for block in blocks for line in (*block, "")][:-1]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, the first to the left."""
    wide = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    return [
        "  " + "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, wide, strict=True)))
        for row in (head, *body)
    ]


def _head(said: Mapping[str, Any]) -> list[str]:
    m = said["machine"]
    where = f"{m['cpu']}, {m['usable_cores']} of {m['cores']} cores, {m['threads']} threads ({' '.join(m['flags'])})"
    load = "" if m["load_average"] is None else f", load {m['load_average']:.1f} before"
    return [
        said["command"],
        f"{where}{load}" + (f", {m['gpu']}" if m["gpu"] else ""),
        f"torch {m['torch']}; {said['preset']['name']}: {said['plan']}",
        f"counted runs: {said['repeats']}, after one that warms up; {said['prompt']!r}, seed {said['seed']}",
    ]


def _stages(said: Mapping[str, Any], name: str) -> list[str]:
    head = ("stage", "s", "least", "most", "evaluations", "GFLOP", "GFLOP/s", "of conv", "of matmul", "peak GB")
    rows = []
    for stage, f in (said["text"] | said["stages"]).items():
        seconds = (_number(f[key], 2) for key in ("seconds", "seconds_min", "seconds_max"))
        shares = (_percent(f[key]) for key in ("fraction_of_peak", "fraction_of_matmul_peak"))
        speed = (_number(f["flops"] / 1e9, 1), _number(f["gflops"], 1), *shares)
        rows.append((stage, *seconds, str(f["evaluations"]), *speed, _number(f["peak_memory_gb"], 2)))
    w = said["whole"]
    whole = (_number(w[key], 2) for key in ("seconds", "seconds_min", "seconds_max"))
    rows.append(("to the video", *whole, "", _number(w["flops"] / 1e9, 1), *[""] * 3, _number(w["peak_memory_gb"], 2)))
    first = w["first_preview_seconds"]
    said_first = "no preview" if first is None else f"first preview after {first:.2f} s"
    title = f"{name}: stages as they run (medians; of the best convolution, or matrix product, of the stage's shapes)"
    return [title, *table(head, rows), said_first]


def _ratio(ratio: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, *(_number(f[key], 2) for key in ("ratio", "ratio_min", "ratio_max")))
        for name, f in ratio["ratios"].items()
    ]
    title = f"time of {ratio['of']} over {ratio['to']}, in turn"
    note = "peaks of memory are the process's: both configurations' models are in it"
    return [title, *table(("", "median", "least", "most"), rows), note]


def _forward(forward: Mapping[str, Any], name: str) -> list[str]:
    head = ("stage", "shape", "in", "s", "GFLOP", "GFLOP/s", "of peak", "of bf16", "MB", "FLOP/B", "roofline", "of it")
    head += ("from float32",)
    rows = []
    for stage, f in forward.items():
        work = (_number(f["seconds"], 4), _number(f["flops"] / 1e9, 2), _number(f["gflops"], 1))
        shares = (_percent(f["fraction_of_peak"]), _percent(f["fraction_of_bf16_peak"]))
        roof = (_number(f["roofline_gflops"], 1), _percent(f["fraction_of_roofline"]))
        moved = (_number(f["bytes"] / 1e6, 1), _number(f["intensity"], 1))
        changed = "" if f["deviation"] is None else f"{100 * f['deviation']:.2f} %"
        rows.append((stage, "×".join(map(str, f["shape"])), f["dtype"], *work, *shares, *moved, *roof, changed))
    note = "bytes: every operation's inputs and outputs, as if nothing were found in a cache"
    note += "; from float32: what the number format changes of the result"
    kinds = list(next(iter(forward.values()))["spent"])
    spent = [(stage, *(_percent(f["spent"][kind]) for kind in kinds)) for stage, f in forward.items()]
    title = f"{name}: one call of each network (b×c×f×h×w)"
    return [title, *table(head, rows), note, "where its time goes", *table(("stage", *kinds), spent)]


def _peak(peak: Mapping[str, Any]) -> list[str]:
    kinds = list(dict.fromkeys((o["kind"], o["dtype"]) for o in peak["operations"]))
    rows: dict[str, dict[tuple[str, str], float]] = {}
    for o in peak["operations"]:
        shape = f"{o['stage']} {o['pictures']}×{o['channels']}×{o['height']}×{o['width']}"
        rows.setdefault(shape, {})[o["kind"], o["dtype"]] = o["gflops"]
    body = [(shape, *(_number(found.get(kind), 1) for kind in kinds)) for shape, found in rows.items()]
    head = ("the machine's GFLOP/s", *(" ".join(kind) for kind in kinds))
    return [*table(head, body), f"a copy of memory: {peak['bandwidth_gb_per_s']:.1f} GB/s, read and written"]


def _scaling(found: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for f in found:
        points = ", ".join(f"{p['size']}: {p['seconds']:.3g} s" for p in f["points"])
        memory = f["gb_per_frame"] if f["against"] == "frames" else None
        slopes = [_number(None if value is None else 1e3 * value, 1) for value in (memory, f["clip_gb_per_frame"])]
        rows.append((f["what"], f["against"], _number(f["exponent"], 2), *slopes, points))
    head = ("cost of", "against", "exponent", "MB a frame", "of them clip", "measured")
    return ["cost = a · size^exponent", *table(head, rows)]


def _compiled(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            stage,
            *(_number(f[key], 4) for key in ("seconds", "compiled_seconds")),
            _number(f["first_call_seconds"], 1),
            _number(f["calls_to_win_back"], 0),
        )
        for stage, f in found.items()
    ]
    head = ("network", "s", "compiled, s", "its first call, s", "won back after calls")
    return ["one call of each network, as it is and by torch.compile", *table(head, rows)]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo, where there is one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
