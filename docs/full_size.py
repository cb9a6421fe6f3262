"""The whole cascade at full size with random weights: `python docs/full_size.py`; 14 GB of memory, no GPU, no download.

Every model of show1 is made of random numbers in its true shape when it is borrowed and forgotten after its stage
(`weights.offload = drop`), and every stage takes one step with guidance. One line of JSON per stage: its seconds, what
was loaded for it, and the process's peak beside the estimate of `python -m mpl memory`. It shows that nothing is held
twice, and that T5, UNets and autoencoder come and go. `--small` tries it with narrow models and small pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mpl.cascade import generate  # noqa: E402
from mpl.config import STAGES, Preset, load_preset, override  # noqa: E402
from mpl.events import Failed, StageFinished, TextEncoded  # noqa: E402
from mpl.measure.estimates import preset_estimates  # noqa: E402
from mpl.measure.plan import make_plan  # noqa: E402
from mpl.measure.structures import Structure, build, find  # noqa: E402
from mpl.memory import PeakMemory  # noqa: E402
from mpl.options import WeightsOptions  # noqa: E402
from mpl.parts import PARTS  # noqa: E402
from mpl.weights import Weights  # noqa: E402

PROMPT = "a red car drives along the beach"
NARROW = {
    "block_out_channels": lambda widths: [64 * (1 + i // 2) for i in range(len(widths))],
    "cross_attention_dim": lambda _: 128,
    "encoder_hid_dim": lambda _: 128,
    "time_embedding_dim": lambda _: 128,
    "attention_head_dim": lambda _: 32,
    "addition_embed_type_num_heads": lambda _: 4,
    "d_model": lambda _: 128,
    "d_ff": lambda _: 256,
    "num_heads": lambda _: 2,
    "num_layers": lambda _: 2,
    "hidden_size": lambda _: 128,
    "intermediate_size": lambda _: 256,
    "num_hidden_layers": lambda _: 2,
    "num_attention_heads": lambda _: 2,
}


class RandomWeights(Weights):
    """Weights whose models are made, not read. What was made since the last look is in `made`."""

    def __init__(self, options: WeightsOptions) -> None:
        super().__init__(options)
        self.made: list[str] = []

    def check(self, stages: Iterable[str] = STAGES, safety: bool = True) -> None:
        """There are no files of weights."""

    def _load(self, name: str) -> nn.Module:
        assert not self.loaded(), f"{name} is loaded beside {', '.join(self.loaded())}"
        self.made.append(name)
        return build(find(self.options, name), self.dtype(name))


def write_configs(preset: Preset, structures: dict[str, Structure]) -> None:
    """The preset's sources in the current folder: configs, schedulers and tokenizers, no weights."""
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", *PROMPT.split()])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", model_max_length=preset.text.tokens
    )
    for name, structure in structures.items():
        source = Path(getattr(preset.weights, PARTS[name].option))
        folder = source / PARTS[name].folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(structure.config))
        if "tokenizer" in PARTS[name].companions:
            tokenizer.save_pretrained(source / "tokenizer")
        else:
            DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(source / "scheduler")
            DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(source / "image_noising_scheduler")


def one_step(preset: Preset) -> Preset:
    """The preset with a step a stage, on the CPU, nothing kept."""
    steps = {f"{stage}.steps": 1 for stage in STAGES} | {
        "superres.first_frame_steps": 1,
        "translation.grid": "from_start",
    }
    where = {"device": "cpu", "offload": "drop", "quantization": "none", "safety": None, "dtype": "bfloat16"}
    return override(preset, steps | {f"weights.{key}": value for key, value in where.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="show1-8gb", help="default: show1-8gb")
    parser.add_argument("--small", action="store_true", help="narrow models")
    args = parser.parse_args()
    preset = one_step(load_preset(args.preset))
    names = [name for name in PARTS if name not in ("keyframes_vae", "upsampling", "safety")]
    structures = {name: find(preset.weights, name) for name in names}
    if args.small:
        sizes = {"superres.height": 80, "superres.width": 128, "translation.height": 160, "translation.width": 288}
        preset = override(preset, sizes)
        for name, found in structures.items():
            narrow = {key: NARROW[key](value) for key, value in found.config.items() if key in NARROW}
            structures[name] = replace(found, config=found.config | narrow)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_configs(preset, structures)
        estimated = {}
        for state in make_plan(preset, preset_estimates(preset)).states:
            stage = state.moment.stage
            estimated[stage] = max(estimated.get(stage, 0), state.host)
        weights, memory = RandomWeights(preset.weights), PeakMemory(torch.device("cpu"))
        for event in generate(PROMPT, preset, weights, 0):
            if isinstance(event, Failed):
                sys.exit(event.message)
            if not isinstance(event, TextEncoded | StageFinished):
                continue
            stage = "text" if isinstance(event, TextEncoded) else event.stage
            peak = memory.of_part() if stage == "text" else event.peak_memory_gb
            said = {"stage": stage, "seconds": round(event.seconds, 1), "models": weights.made}
            said |= {"peak_gb": round(peak, 2), "estimate_gb": round(estimated[stage] / 1e9, 2)}
            print(json.dumps(said), flush=True)
            weights.made = []
        assert not weights.loaded()
        os.chdir("/")


if __name__ == "__main__":
    main()
