"""`python -m mpl bench`: what the cascade costs on this machine, and what the machine could do."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.command import assignments
from mpl.config import Preset, differences, load_preset, override, to_dict
from mpl.limits import Range, check_folder, check_path, check_prompt, check_seed
from mpl.terminal import RunFailed, Terminal
from mpl.video import replacing

if TYPE_CHECKING:
    import torch

    from mpl.cascade import Arm
    from mpl.measure.peak import Peaks

PARTS = ("stages", "peak", "forward", "scaling", "loading", "app")
COMPILE = "compile"  # a part for those who ask for it: it takes minutes
PROMPT = "a red car crosses the sea at night"
OUT = "runs/bench.json"
NAIVE = "naive"  # the second configuration's name, with that of its preset where it is another
_REPEATS = Range(1, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="storybook", metavar="NAME|FILE.toml", help="default: storybook")
    parser.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="such as keyframes.steps=10")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="counted runs, after one more; default: 3")
    parser.add_argument("--prompt", default=PROMPT, help=f"default: {PROMPT}")
    parser.add_argument("--seed", default="0", help="a whole number from 0 to 2^63 - 1; default: 0")
    parser.add_argument(
        "--parts", metavar="PART,…", help="some of " + ",".join(PARTS) + f"; default: all; or {COMPILE}"
    )
    parser.add_argument(
        "--naive", action="store_true", help="in turn with the plain published form in float32, and the ratio"
    )
    parser.add_argument(
        "--against", metavar="PRESET", help="in turn with another preset, with --naive in that form, and the ratio"
    )
    parser.add_argument("--set-against", nargs="+", action="extend", metavar="KEY=VALUE", help="changes to that one")
    parser.add_argument("--out", default=OUT, metavar="FILE.json", help=f"default: {OUT}")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, writes the figures, and prints them as tables or, with --json, returns them alone.

    Raises:
        ValueError: bad input, before any work.
        RunFailed: a run broke off, the page did not answer, or the file could not be written.
    """
    presets, parts = _presets(args), _parts(args)
    if not _REPEATS.accepts(args.repeats):
        raise ValueError(f"--repeats = {args.repeats}: must be {_REPEATS}")
    prompt, seed = check_prompt(args.prompt, "--prompt"), check_seed(args.seed, "--seed")
    out = _out(args.out)
    said: dict[str, Any] = {}
    try:
        _measure(args, presets, parts, prompt, seed, said)
    finally:  # what was measured before a part failed, or was broken off, is not lost
        if said.keys() & {*PARTS, COMPILE}:
            _tell(out, said, quiet=args.json)
    return said


def _tell(out: Path, said: Mapping[str, Any], quiet: bool) -> None:
    from mpl.measure.bench_report import lines

    _write(out, said)
    if not quiet:
        print("\n".join(lines(said)), flush=True)
        print(f"\n{out}", flush=True)


def _measure(
    args: argparse.Namespace,
    presets: Mapping[str, Preset],
    parts: tuple[str, ...],
    prompt: str,
    seed: int,
    said: dict[str, Any],
) -> None:
    """Adds to `said` the parts that were asked for, the beginnings first: a page that does not start ends it early."""
    from mpl.measure.bench_report import machine_figures
    from mpl.measure.starting import app_command, app_figures, loading_figures

    arms, terminal = _arms(presets, args.naive), Terminal()
    first = next(iter(arms.values()))
    preset, weights = first.preset, first.weights
    for each in arms.values():
        _check(each, prompt, seed)
    said |= {
        "command": shlex.join(["python", "-m", "mpl", "bench", *_given(args)]),
        "machine": machine_figures(weights.device),
        "preset": to_dict(preset),
        "plan": weights.plan(),
        "prompt": prompt,
        "seed": seed,
        "repeats": args.repeats,
        "parts": list(parts),
    }
    terminal.line(f"{preset.name}: {weights.plan()}")
    if "app" in parts:
        terminal.line("app: from its start with --preset alone to the first answer")
        said["app"] = app_figures(app_command(args.preset), args.repeats)
    if "loading" in parts:
        terminal.line("loading")
        said["loading"] = loading_figures(preset, args.repeats)
    if set(parts) - {"app", "loading"}:
        import torch

        from mpl.loading import first_line

        try:
            _measure_runs(args, arms, parts, prompt, seed, terminal, said)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise RunFailed(f"out of memory on {weights.device}: {first_line(error)}") from error


def _measure_runs(
    args: argparse.Namespace,
    arms: Mapping[str, Arm],
    parts: tuple[str, ...],
    prompt: str,
    seed: int,
    terminal: Terminal,
    said: dict[str, Any],
) -> None:
    """Adds what needs whole runs: the first of each arm counts operations and warms it up."""
    import torch

    from mpl.measure import bench, compiled, forward, peak, scaling

    terminal.line("a run that counts operations")
    (name, arm), *others = arms.items()
    counted = {name: bench.counted_run(arm, prompt, seed)}
    calls, weights = counted[name].calls, arm.weights
    if "stages" in parts:
        counted |= {other: bench.counted_run(one, prompt, seed) for other, one in others}
        times = bench.timed_runs(arms, prompt, seed, args.repeats, terminal.line)
        said |= _of_runs(times, counted)
    peaks = None
    naive = others[0][0] if args.naive else None
    if "peak" in parts:
        terminal.line("peak: convolutions and matrix products of these shapes")
        shapes, formats = bench.shapes(counted[name], weights), bench.formats(counted[name], weights)
        peaks = peak.measure(shapes, [torch.bfloat16, torch.float32, *formats.values()], weights.device)
        said["peak"] = peak.figures(peaks)
        _add_shares(said, formats, peaks)
        if naive:
            _add_shares(said["other"], bench.formats(counted[name], arms[naive].weights), peaks)
    if "forward" in parts:
        terminal.line("forward: one call of each network")
        said["forward"] = forward.forward_figures(calls, weights, peaks, args.repeats)
        if naive:
            figures = forward.forward_figures(counted[naive].calls, arms[naive].weights, peaks, args.repeats)
            said["other"]["forward"] = figures
    if "scaling" in parts:
        terminal.line("scaling: frames, pixels, batch")
        lines = scaling.scaling_lines(arm.preset, weights, prompt, calls, args.repeats)
        said["scaling"] = scaling.figures(lines)
    if COMPILE in parts:
        terminal.line("compile: one call of each network, as it is and compiled")
        said["compile"] = compiled.compiled_figures(calls, weights, args.repeats)


def _of_runs(times: Mapping[str, Any], counted: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the first arm's stages; with two arms those of the second as well, and the ratio."""
    from mpl.measure.bench import TEXT, ratio_figures, stage_figures, whole_figures

    said: dict[str, Any] = {}
    for name, runs in times.items():
        stages = stage_figures(runs, counted[name].flops)
        own = {"text": {TEXT: stages.pop(TEXT)}, "stages": stages, "whole": whole_figures(runs, counted[name].flops)}
        said |= {"other": own | {"name": name}} if "stages" in said else own
    if len(times) == 2:
        said["ratio"] = ratio_figures(times)
    return said


def _add_shares(said: Mapping[str, Any], formats: Mapping[str, torch.dtype], peaks: Peaks) -> None:
    """Each stage's operations per second over the best convolution and matrix product of its networks' shapes."""
    from mpl.measure.forward import share

    for stage, figures in (said.get("text", {}) | said.get("stages", {})).items():
        if stage not in formats:  # no network was called: a single keyframe leaves nothing to interpolate
            continue
        for key, kind in (("fraction_of_peak", "convolution"), ("fraction_of_matmul_peak", "matmul")):
            figures[key] = share(figures["gflops"], peaks.best(stage, kind, formats[stage]))


def _arms(presets: Mapping[str, Preset], naive: bool) -> dict[str, Arm]:
    """The presets with their weights; for the naive form, the last one's files in another way of computing."""
    from mpl.cascade import Arm
    from mpl.weights import Weights

    if not naive:
        return {name: Arm(preset, Weights(preset.weights)) for name, preset in presets.items()}
    from mpl.measure.naive import NaiveWeights, naive_preset

    (name, preset), *others = presets.items()
    plain = naive_preset(others[0][1] if others else preset)
    slow = " ".join([NAIVE, *(other for other, _ in others)])
    return {name: Arm(preset, Weights(preset.weights)), slow: Arm(plain, NaiveWeights(plain.weights))}


def _check(arm: Arm, prompt: str, seed: int) -> None:
    """Raises ValueError where a run would, before any work: `generate` checks when it is called."""
    from mpl.cascade import generate

    generate(prompt, arm.preset, arm.weights, seed).close()


# ---- options


def _presets(args: argparse.Namespace) -> dict[str, Preset]:
    """The presets by the names of their arms."""
    if args.set_against and not args.against:
        raise ValueError("--set-against needs --against PRESET")
    first = override(load_preset(args.preset), assignments(args.set, "--set"))
    if args.naive and first.name == NAIVE:
        raise ValueError(f"--naive: the preset is called {NAIVE} itself; --set name=… gives it another name")
    if not args.against:
        return {first.name: first}
    second = override(load_preset(args.against), assignments(args.set_against, "--set-against"))
    if not differences(first, second):
        raise ValueError(f"--against {args.against}: does not differ from --preset {args.preset}")
    name = second.name if second.name != first.name else f"{second.name} (against)"
    return {first.name: first, name: second}


def _parts(args: argparse.Namespace) -> tuple[str, ...]:
    asked = PARTS if args.parts is None else [part.strip() for part in args.parts.split(",")]
    for part in asked:
        if part not in (*PARTS, COMPILE):
            accepted = ", ".join((*PARTS, COMPILE))
            raise ValueError(f"--parts {part!r}: must be one or more of {accepted}, with commas between")
    if (args.naive or args.against) and "stages" not in asked:
        raise ValueError(f"--parts {args.parts}: {'--naive' if args.naive else '--against'} needs stages among them")
    return tuple(part for part in (*PARTS, COMPILE) if part in asked)


def _out(path: str) -> Path:
    """The file to write to, its folder made and proved writable."""
    found = Path(check_path(path, "--out"))
    if found.suffix != ".json" or found.is_dir():
        raise ValueError(f"--out {path}: must be a file that ends in .json")
    check_folder(found.parent, "--out")
    return found


def _given(args: argparse.Namespace) -> list[str]:
    """The options that differ from their defaults, as they would be typed."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words: list[str] = []
    for name, usual in vars(parser.parse_args([])).items():
        value = getattr(args, name)
        if value != usual:
            words.append("--" + name.replace("_", "-"))
            words += [] if value is True else [str(one) for one in (value if isinstance(value, list) else [value])]
    return words


def _write(path: Path, said: Mapping[str, Any]) -> None:
    """Writes the figures as a whole, or not at all."""
    try:
        with replacing(path) as temporary:
            text = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFailed(f"{path} could not be written to: {error.strerror or error}") from error
