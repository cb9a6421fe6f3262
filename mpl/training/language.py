"""The two text encoders: a T5 that names every attribute, and a CLIP trained contrastively on the world."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    PreTrainedConfig,
    T5Config,
    T5EncoderModel,
)

from mpl.devices import choose_device, choose_dtype

from .data import Batch
from .files import save_bf16
from .task import Task, find_part
from .vocabulary import note_unknown, tokenize, tokenizer_for


class FrozenText(nn.Module):
    """A trained text encoder as the denoisers use it: captions in, states (b, tokens, d) out, no gradient.

    It is loaded in the number format that the stages choose on this machine (T5-XXL is 9 GB in bfloat16, not 19).
    """

    def __init__(self, folder: Path, kind: type[T5EncoderModel] | type[CLIPTextModel], tokens: int) -> None:
        from transformers import AutoTokenizer

        super().__init__()
        self.tokens = tokens
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        dtype, _ = choose_dtype("auto", choose_device("auto")[0])
        self.encoder = kind.from_pretrained(folder / "text_encoder", dtype=dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, captions: list[str]) -> Tensor:
        """As the text stage encodes prompts: single spaces; T5 reads lower case and sees the mask, CLIP neither."""
        t5 = isinstance(self.encoder, T5EncoderModel)
        cleaned = [" ".join(caption.split()) for caption in captions]
        inputs = tokenize(self.tokenizer, [c.lower() for c in cleaned] if t5 else cleaned, self.tokens)
        device = self.encoder.device
        mask = {"attention_mask": inputs["attention_mask"].to(device)} if t5 else {}
        return self.encoder(inputs["input_ids"].to(device), **mask).last_hidden_state.float()


@dataclass(frozen=True)
class LabelBatch:
    """Captions and, per attribute, the index of the value they name; the number of values stands for "not named"."""

    captions: list[str]
    labels: Tensor  # (b, attributes) int64

    def to(self, device: torch.device) -> LabelBatch:
        return LabelBatch(self.captions, self.labels.to(device))


def check_keys(where: str, given: Mapping[str, Any], kind: type[PreTrainedConfig]) -> None:
    """Raises ValueError for keys that a config of transformers does not have; it would keep them, and use none."""
    known = kind().to_dict()
    for key in given:
        if key not in known:
            raise ValueError(f"{where}.{key}: {kind.__name__} has none; accepted: {', '.join(sorted(known))}")


class LabelReader(nn.Module):
    """The T5 encoder with one linear head per attribute over its mean state; the heads are dropped after training."""

    def __init__(self, encoder: T5EncoderModel, values: dict[str, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({k: nn.Linear(encoder.config.d_model, n + 1) for k, n in values.items()})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        states = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return {k: head(pooled) for k, head in self.heads.items()}


class TextTask(Task):
    """Trains the T5 encoder to predict every label from captions with all their synonyms."""

    model: LabelReader

    @property
    def stored(self) -> str:
        return "T5EncoderModel"

    def build(self, init_from: Path | None) -> LabelReader:
        from mpl.storybook.scene import ATTRIBUTES

        folder = init_from and find_part(init_from, "text_encoder")
        self.tokenizer = tokenizer_for(folder and folder.parent / "tokenizer", self.options.data.tokens)
        if folder:
            encoder = T5EncoderModel.from_pretrained(folder, dtype=torch.float32)
            self.check_start(encoder.config.to_dict(), folder)
        else:
            check_keys(f"{self.options.name}.model", self.options.model, T5Config)
            encoder = T5EncoderModel(T5Config(vocab_size=len(self.tokenizer), pad_token_id=0, **self.options.model))
        return LabelReader(encoder, {k: len(v) for k, v in ATTRIBUTES.items()})

    def draw(self, seed: int, progress: float, split: str = "train") -> LabelBatch:
        from mpl.storybook.captions import caption
        from mpl.storybook.scene import ATTRIBUTES

        rng, data = random.Random(seed), self.data if split == "train" else self.heldout
        captions, labels = [], []
        for _ in range(self.options.data.batch):
            scene = data.scenes(rng, 1, progress)[0]
            spoken = caption(scene, rng, style=self.options.data.caption)
            captions.append(spoken.text)
            labels.append(
                [ATTRIBUTES[k].index(scene.labels[k]) if k in spoken.named else len(ATTRIBUTES[k]) for k in ATTRIBUTES]
            )
        return LabelBatch(captions, torch.tensor(labels)).to(self.device)

    def inputs(self, batch: LabelBatch) -> dict[str, Tensor]:
        inputs = tokenize(self.tokenizer, batch.captions, self.options.data.tokens)
        return {name: values.to(self.device) for name, values in inputs.items()}

    def loss(self, model: nn.Module, batch: LabelBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(**self.inputs(batch))
        losses = [F.cross_entropy(head, batch.labels[:, i]) for i, head in enumerate(logits.values())]
        right = torch.stack([head.argmax(1) == batch.labels[:, i] for i, head in enumerate(logits.values())])
        return torch.stack(losses).mean(), {"accuracy": right.float().mean()}

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        right = []
        for seed in range(16):
            batch = self.draw(10**9 + seed, 1.0, split="heldout")
            logits = self.model(**self.inputs(batch))
            right += [head.argmax(1) == batch.labels[:, i] for i, head in enumerate(logits.values())]
        return {"label accuracy on held-out captions": round(torch.cat(right).float().mean().item(), 5)}

    def save(self, folder: Path) -> None:
        save_bf16(self.model.encoder, folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")


class ClipTask(Task):
    """A small CLIP on single frames and their captions (Radford et al. 2021): stage 4's text encoder, and CLIPSIM."""

    model: CLIPModel

    def build(self, init_from: Path | None) -> CLIPModel:
        tokens = self.options.data.tokens
        self.tokenizer = tokenizer_for(init_from and find_part(init_from, "."), tokens, self.data)
        if init_from:
            note_unknown(self.tokenizer, self.data, f"train clip: --init-from {init_from}")
            model = CLIPModel.from_pretrained(init_from, dtype=torch.float32)
            config = {key.removesuffix("_config"): value for key, value in model.config.to_dict().items()}
            self.check_start(config, init_from)
            return model
        for part, kind in (("text", CLIPTextConfig), ("vision", CLIPVisionConfig)):
            check_keys(f"{self.options.name}.model.{part}", self.options.model[part], kind)
        ids = {"vocab_size": len(self.tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        text = {**self.options.model["text"], **ids, "max_position_embeddings": tokens}
        vision = self.options.model["vision"]
        dim = self.options.model["projection_dim"]
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim))

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = tokenize(self.tokenizer, batch.captions, self.options.data.tokens)
        inputs = {name: values.to(self.device) for name, values in inputs.items()}
        out = model(pixel_values=batch.clip[:, :, 0], **inputs)
        targets = torch.arange(len(batch.captions), device=self.device)
        loss = F.cross_entropy(out.logits_per_text, targets) + F.cross_entropy(out.logits_per_image, targets)
        right = (out.logits_per_image.argmax(1) == targets).float().mean()
        return loss / 2, {"accuracy": right}

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        batch = self.heldout.draw(10**9).to(self.device)
        _, figures = self.loss(self.model, batch, torch.Generator())
        return {
            f"picture-to-caption accuracy, held-out, 1 of {len(batch.captions)}": round(figures["accuracy"].item(), 4)
        }

    def save(self, folder: Path) -> None:
        """The whole CLIP, and its text half where stage 4 looks for it."""
        save_bf16(self.model, folder)
        self.tokenizer.save_pretrained(folder)
        translation = folder.parent / "translation"
        text = CLIPTextModel(self.model.config.text_config)
        text.load_state_dict(self.model.text_model.state_dict())
        save_bf16(text, translation / "text_encoder")
        self.tokenizer.save_pretrained(translation / "tokenizer")
