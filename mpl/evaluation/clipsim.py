"""CLIPSIM: how near the frames of a video are to its prompt, in a CLIP's shared space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.pictures import clip_pictures

from .metrics import clip_similarity, consistency

if TYPE_CHECKING:
    from mpl.events import Frames


class ClipScorer:
    """A `transformers.CLIPModel` with its tokenizer, read from a folder: the storybook's own, or a published one.

    Pictures are prepared as the model was trained. A folder with `preprocessor_config.json` (published CLIPs) says how:
    the shorter side resized bicubically, the middle cut out, its mean and deviation. Without one it is ours: the whole
    picture, whatever its shape, resized to a square in [-1, 1].
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu") -> None:
        """Raises ValueError where the folder holds no CLIP."""
        from transformers import AutoTokenizer, CLIPModel

        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise ValueError(f"{folder}: no CLIP there; train one with `python -m mpl train clip`")
        self.model = CLIPModel.from_pretrained(self.folder, dtype=torch.float32).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        published = self.folder / "preprocessor_config.json"
        self.preparation = json.loads(published.read_text(encoding="utf-8")) if published.is_file() else None

    @torch.no_grad()
    def score(self, prompt: str, frames: Frames) -> float:
        """CLIPSIM of frames (uint8 `f h w 3`) and prompt, a mean cosine in [-1, 1]; published CLIPs give 0.2 to 0.35.

        A published CLIP's cosines cannot be compared with those of another CLIP, ours among them.
        """
        most = self.model.config.text_config.max_position_embeddings  # which a tokenizer alone may not know
        longest = min(self.tokenizer.model_max_length, most)
        length = {"padding": "max_length", "truncation": True, "max_length": longest}
        tokens = self.tokenizer([" ".join(prompt.split())], return_tensors="pt", **length).to(self.model.device)
        text = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        pictures = self.model.get_image_features(pixel_values=self.prepare(frames).to(self.model.device))
        return clip_similarity(_features(pictures), _features(text)).item()

    @torch.no_grad()
    def consistency(self, frames: Frames) -> float:
        """Mean cosine of neighbouring frames (uint8 `f h w 3`, two or more), in [-1, 1]."""
        pictures = self.model.get_image_features(pixel_values=self.prepare(frames).to(self.model.device))
        return consistency(_features(pictures)).item()

    def prepare(self, frames: Frames) -> Tensor:
        """Frames (uint8 `f h w 3`) as the model's pictures, `(f, 3, size, size)`."""
        size = self.model.config.vision_config.image_size
        if self.preparation is not None:
            return clip_pictures(frames, size, self.preparation)
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        return F.interpolate(x, (size, size), mode="bilinear", antialias=True) * 2 - 1


def _features(out: object) -> Tensor:
    """Of transformers 5, where it is part of an output, or of 4, where it is the output."""
    return getattr(out, "pooler_output", out)
