"""What a video of a preset costs in operations, counted on fake tensors, and how many videos an hour that makes.

    python docs/cost.py PRESET… [--sustained TFLOPS…]

No weights and no GPU are needed. Operations are those of `mpl.measure.flops`; guidance within an interval of noise
levels alone is counted as if it were everywhere, deep levels that are kept as if they were computed. Videos an hour are
the operations over what a device is given to sustain: an extrapolation, not a measurement.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mpl.config import STAGES, Preset, load_preset  # noqa: E402
from mpl.measure.calls import Call  # noqa: E402
from mpl.measure.estimates import Estimates  # noqa: E402
from mpl.measure.flops import counting_flops  # noqa: E402
from mpl.measure.plan import Moment, frames, moments  # noqa: E402
from mpl.measure.tracker import tracked_peak  # noqa: E402


class Counted(Estimates):
    """Estimates in operations, in place of bytes."""

    def _peak(self, name: str, call: Call, *key: Any) -> int:
        if (name, *key) not in self._known:
            self._known[name, *key] = 0
            network = self.network(name)

            def count() -> None:
                with counting_flops() as counter:
                    call(network)
                self._known[name, *key] = counter.total

            with torch.device("meta"):
                tracked_peak(count, [network])  # which knows how fake tensors can be asked for a number
        return self._known[name, *key]


def cost(name: str) -> dict[str, float]:
    """10¹² operations of a video, by stage ("text" is the encoding of prompts)."""
    preset = load_preset(name)
    found: dict[str, float] = defaultdict(float)
    for moment in moments(preset, Counted(preset.weights)):
        found[moment.stage] += moment.activations * moment.calls * _filled(moment, preset) / 1e12
    return found


def _filled(moment: Moment, preset: Preset) -> float:
    """How much of its calls a model uses: the last frames may be fewer than an autoencoder takes at a time."""
    if moment.model != "vae":
        return 1.0
    count = frames(preset)
    return count / (moment.calls * min(preset.translation.decode_frames, count))


def main() -> None:
    parser = argparse.ArgumentParser(description="Operations of a video, and videos an hour.")
    parser.add_argument("presets", nargs="+", metavar="PRESET")
    parser.add_argument("--sustained", nargs="*", type=float, default=(), metavar="TFLOPS", help="of a device")
    args = parser.parse_args()
    columns = ("text", *STAGES, "all", *(f"videos an hour at {t:g} TFLOP/s" for t in args.sustained))
    print(f"| preset, TFLOP | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name in args.presets:
        found = cost(name)
        total = sum(found.values())
        values = [*(found.get(stage, 0.0) for stage in ("text", *STAGES)), total]
        values += [t / total * 3600 for t in args.sustained]
        print(f"| {name} | {' | '.join(f'{value:,.3g}' for value in values)} |")


if __name__ == "__main__":
    main()
