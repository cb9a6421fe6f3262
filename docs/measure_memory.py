"""Estimates beside measurements: `python docs/measure_memory.py`; on a GPU where there is one, else on the CPU.

Prints one line of JSON per network and number format: the activations that `python -m mpl memory` counts with fake
tensors, and the most that the device's allocator really gave out. On a GPU the networks are those of show1 at full size
with random weights (`--small` takes small ones), and what the allocator took from the card (`reserved_gb`, weights
among it) stands beside it. On the CPU they are small: there torch's profiler records the allocations, and the growth of
the process's resident memory (`resident_gb`) stands beside it. Four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mpl.config import load_preset  # noqa: E402
from mpl.measure.calls import Call, decode_call, denoise_call, encode_call, text_call  # noqa: E402
from mpl.measure.structures import Structure, build, find  # noqa: E402
from mpl.measure.tracker import measured_peak, tracked_peak  # noqa: E402
from mpl.memory import PeakMemory  # noqa: E402

# Of the noisy clips, at full size: batch, channels, frames, height, width.
SHAPES = {
    "keyframes": (1, 3, 8, 40, 64),
    "interpolation": (7, 3, 5, 40, 64),
    "superres_first_frame": (1, 3, 1, 160, 256),
    "superres": (1, 3, 8, 160, 256),
    "translation": (1, 4, 29, 40, 72),
}
TOKENS = 77


def shrunk(structure: Structure) -> Structure:
    """The same blocks, narrower; of T5 fewer, too."""
    config = dict(structure.config)
    if structure.kind == "t5":
        return replace(structure, config=config | {"d_model": 512, "d_ff": 1280, "num_heads": 8, "num_layers": 4})
    config["block_out_channels"] = [64 * (1 + i // 2) for i in range(len(config["block_out_channels"]))]
    smaller = {"cross_attention_dim": 128, "encoder_hid_dim": 128, "time_embedding_dim": 128, "attention_head_dim": 32}
    smaller["addition_embed_type_num_heads"] = 4
    config |= {key: value for key, value in smaller.items() if key in config}
    return replace(structure, config=config)


def cases(dtype: torch.dtype, small: bool) -> Iterator[tuple[str, str, Call]]:
    """What is done, by which of the preset's models, and the call: T5, every denoiser of show1, and the autoencoder."""
    yield f"text, two prompts of {TOKENS} tokens", "text", text_call(TOKENS)
    options, less = load_preset("show1").translation, 2 if small else 1
    for name, shape in SHAPES.items():
        count = 8 if small and name == "translation" else shape[2]
        side = less if name.startswith("superres") else 1
        shape = (1 if small else shape[0], shape[1], count, shape[3] // side, shape[4] // side)
        for split in (False, True):
            what = f"{name} {' '.join(map(str, shape))}, guidance in {'two calls' if split else 'one call'}"
            yield what, name, denoise_call(shape, TOKENS, dtype, 9.0, split)
    parts = denoise_call(shape, TOKENS, dtype, 9.0, parts=4)
    yield "translation with feed-forwards in 4 parts", "translation", parts
    size = (options.height // less, options.width // less, dtype)
    yield "vae, encoding 1 frame", "vae", encode_call(1, *size)
    for count in (1, 4):
        yield f"vae, decoding {count} frame{'s' if count > 1 else ''}", "vae", decode_call(count, *size)


def growth(work: Callable[[], object]) -> float:
    """GB that the process's resident memory peaks above what it is before."""
    memory = PeakMemory(torch.device("cpu"))
    before = memory.of_part()
    work()
    return memory.of_part() - before


def compare(call: Call, structure: Structure, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Estimate and measurement in GB, and their ratio."""
    with torch.device("meta"):
        fake = build(structure, dtype)
        estimate = tracked_peak(lambda: call(fake), [fake], device.type)
    with device:
        model = build(structure, dtype)
        with torch.no_grad():
            call(model)  # in a first call libraries set themselves up
            grown = growth(lambda: call(model))
        measured = measured_peak(lambda: call(model), device)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    figures = {"weights_gb": weights / 1e9, "estimate_gb": estimate / 1e9, "measured_gb": measured / 1e9}
    if device.type == "cuda":
        figures["reserved_gb"] = torch.cuda.max_memory_reserved(device) / 1e9
    else:
        figures["resident_gb"] = grown
    return {key: round(value, 4) for key, value in figures.items()} | {"ratio": round(estimate / measured, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small networks on a GPU, too")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small = args.small or device.type == "cpu"
    options = load_preset("show1").weights
    for dtype in (torch.float32, torch.bfloat16) if small else (torch.bfloat16, torch.float16):
        for what, name, call in cases(dtype, small):
            structure = find(options, name)
            figures = compare(call, shrunk(structure) if small else structure, dtype, device)
            said = {"device": device.type, "dtype": str(dtype).removeprefix("torch."), "what": what}
            print(json.dumps(said | figures), flush=True)


if __name__ == "__main__":
    main()
