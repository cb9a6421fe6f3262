"""Weights and activations of a preset's models, in bytes, without weights: from fake models at their true shapes."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import torch
from torch import nn

from mpl.config import Preset
from mpl.devices import choose_dtype
from mpl.measure.calls import Call, decode_call, denoise_call, encode_call, safety_call, text_call
from mpl.measure.structures import Structure, build, find
from mpl.measure.tracker import tracked_peak
from mpl.options import KeyframesOptions, TranslationOptions, WeightsOptions
from mpl.parts import PARTS

# Bytes of a weight in bitsandbytes: int8, with a float32 for each row; nf4 in blocks of 64 with scales of 8 bits, these
# in blocks of 256 with a float32 each.
_INT8, _NF4 = 1.0, 0.5 + 1 / 64 + 4 / (64 * 256)


class Estimates:
    """Weights and activations of models; every call of the same shape is run once.

    Args:
        options: which models, and their number format: "auto" is float16 on a GPU, what it becomes on those of before
            2020. It takes no less than bfloat16, which the others get: T5's widest layers stay float32 then.
        like: "cuda" or "cpu", see `Tracker`.
    """

    def __init__(self, options: WeightsOptions, like: str = "cuda") -> None:
        self.options, self.like = options, like
        self.dtype = torch.float16
        if options.dtype != "auto" or like == "cpu":
            self.dtype, _ = choose_dtype(options.dtype, torch.device(like))
        self._structures: dict[str, Structure] = {}
        self._networks: dict[str, nn.Module] = {}
        self._known: dict[tuple, int] = {}
        self._lock = threading.RLock()

    def structure(self, name: str) -> Structure:
        if name not in self._structures:
            self._structures[name] = find(self.options, name)
        return self._structures[name]

    def put(self, name: str, structure: Structure) -> None:
        """Says what a model is made of, in place of its source."""
        self._structures[name] = structure

    def network(self, name: str) -> nn.Module:
        """The model, of fake tensors."""
        with self._lock:
            if name not in self._networks:
                dtype = torch.float32 if PARTS[name].exact else self.dtype
                with torch.device("meta"):
                    self._networks[name] = build(self.structure(name), dtype)
            return self._networks[name]

    def config(self, name: str) -> Any:
        return self.network(name).config

    def weights(self, name: str, quantization: str = "none") -> int:
        """Bytes of a model's weights, with T5's linear layers quantized.

        transformers leaves T5's `wo` layers as they are, and in float32 where the rest is float16.
        """
        network = self.network(name)
        total = sum(p.numel() * p.element_size() for p in network.parameters())
        if PARTS[name].kind != "t5":
            return total
        linear = {path: module.weight for path, module in network.named_modules() if isinstance(module, nn.Linear)}
        if self.dtype == torch.float16:
            total += sum(2 * weight.numel() for path, weight in linear.items() if path.endswith(".wo"))
        if quantization == "none":
            return total
        packed = [weight for path, weight in linear.items() if not path.endswith(".wo")]
        total -= sum(weight.numel() * weight.element_size() for weight in packed)
        if quantization == "int8":
            return total + round(sum(weight.numel() * _INT8 + 4 * len(weight) for weight in packed))
        return total + round(sum(weight.numel() * _NF4 for weight in packed))

    # ---- activations

    def text(self, name: str, tokens: int, quantization: str = "none") -> int:
        """Of encoding a prompt and the negative prompt. A quantized layer is whole, in 16 bits, while it works."""
        layer = 0
        if quantization != "none":
            linear = (module for module in self.network(name).modules() if isinstance(module, nn.Linear))
            layer = max(module.weight.numel() for module in linear) * 2
        tokens = min(tokens, getattr(self.config(name), "max_position_embeddings", tokens))  # CLIP's, as in a run
        return layer + self._peak(name, text_call(tokens), tokens)

    def denoiser(
        self,
        name: str,
        shape: tuple[int, ...],
        tokens: int,
        guidance: float,
        split: bool,
        parts: int = 1,
        deep: bool = False,
    ) -> int:
        """Of a guided call on noisy clips `shape (b, c, f, h, w)`."""
        split = split and guidance > 1
        call = denoise_call(shape, tokens, self.dtype, guidance, split, parts, deep)
        return self._peak(name, call, shape, tokens, guidance > 1, split, parts, deep)

    def encode(self, name: str, frames: int, options: TranslationOptions) -> int:
        """Of frames of the last size in the autoencoder's encoder."""
        how = (frames, options.height, options.width, self.dtype, options.tiling, options.tile_overlap)
        return self._peak(name, encode_call(*how), "encode", *how)

    def decode(self, name: str, frames: int, options: KeyframesOptions | TranslationOptions) -> int:
        """Of so many frames of the stage's size in the autoencoder's decoder."""
        tiles = (options.tiling, options.tile_overlap) if isinstance(options, TranslationOptions) else ()
        how = (frames, options.height, options.width, self.dtype, *tiles)
        return self._peak(name, decode_call(*how), "decode", *how)

    def safety(self, name: str) -> int:
        """Of the safety checker."""
        return self._peak(name, safety_call())

    def _peak(self, name: str, call: Call, *key: Any) -> int:
        known = (name, *key)
        with self._lock:
            if known not in self._known:
                network = self.network(name)
                with torch.device("meta"):
                    self._known[known] = tracked_peak(lambda: call(network), [network], self.like)
            return self._known[known]


def clip_bytes(*shape: int) -> int:
    """Bytes of a clip in float32."""
    return 4 * prod(shape)


def preset_estimates(preset: Preset) -> Estimates:
    """For the device that the preset runs on: "auto" is planned as a GPU."""
    return Estimates(preset.weights, "cpu" if preset.weights.device == "cpu" else "cuda")
