"""`python -m mpl memory`: what a preset needs, and the fastest settings with which it fits.

Needs neither weights nor a GPU. Models whose weights are not here are known by their published structure
(`presets/structures`).
"""

from __future__ import annotations

import argparse
from typing import Any

from mpl.command import assignments
from mpl.config import Preset, load_preset, override
from mpl.limits import Range

_GB = Range(0, 10_000, above=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="storybook", metavar="NAME|FILE.toml", help="default: storybook")
    parser.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="such as weights.offload=none")
    parser.add_argument("--vram", type=float, metavar="GB", help="choose the fastest settings that fit into this GPU")
    parser.add_argument(
        "--ram", type=float, metavar="GB", help="with --vram: main memory to use; default: the largest model + 2 GB"
    )
    parser.add_argument(
        "--table4", action="store_true", help="the last stage in pixels and in latents, as in the paper's Table 4"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the tables, or with --json returns their figures alone.

    Raises:
        ValueError: bad input, a model of unknown structure, or nothing fits.
    """
    loaded = load_preset(args.preset)
    preset = override(loaded, assignments(args.set, "--set"))
    for option in ("vram", "ram"):
        value = getattr(args, option)
        if value is not None and not _GB.accepts(value):
            raise ValueError(f"--{option} = {value:g}: must be {_GB}")
    if args.ram is not None and args.vram is None:
        raise ValueError("--ram needs --vram")
    if args.vram is not None and preset.weights.device == "cpu":
        raise ValueError("--vram: the preset's weights.device is cpu; --set weights.device=auto plans for a GPU")
    return _tell(loaded, preset, args)


def _tell(loaded: Preset, preset: Preset, args: argparse.Namespace) -> dict[str, Any]:
    from mpl.measure import memory_report as report
    from mpl.measure.choose import choose, policies, variants
    from mpl.measure.estimates import preset_estimates
    from mpl.measure.plan import make_plan
    from mpl.measure.table4 import rows

    estimates = preset_estimates(preset)
    plan = make_plan(preset, estimates)
    blocks = [report.plan_lines(plan, f"{preset.name}, as it is")]
    said: dict[str, Any] = {}
    if args.vram is not None:
        chosen = choose(preset, estimates, args.vram, args.ram)
        blocks += [report.choice_lines(args.preset, loaded, chosen, args.vram)]
        blocks += [report.plan_lines(chosen, f"{preset.name} with these settings")]
        said = {"vram_gb": args.vram, "settings": report.choice_figures(preset, chosen)}
        plan = chosen
    elif not args.json and preset.weights.device != "cpu":
        blocks += [report.policy_lines(policies(preset, estimates))]
        blocks += [report.variant_lines(variants(preset, estimates))]
    if args.table4:
        found = rows(preset, estimates)
        blocks += [report.table4_lines(found)]
        said["table4"] = report.table4_figures(found)
    blocks += [report.assumed_lines(estimates, plan)]
    if not args.json:
        print("\n\n".join("\n".join(block) for block in blocks), flush=True)
    return report.figures(plan) | said
