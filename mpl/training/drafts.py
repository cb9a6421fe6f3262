"""How the drafts of keyframes learn: from silhouettes alone, and a fresh outline's before anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mpl.models.layout import Draft, draft_loss
from mpl.models.outline import Outline, outline_loss
from mpl.models.unet import VideoUNetOutput

from .data import StorybookData
from .options import CLOCK

_LESSONS, _RATE = 600, 2e-3  # steps of a fresh outline, and their rate: half a minute, after which it errs no less


def freeze_drafting(model: nn.Module) -> None:
    """Its drafts stay as they are: silhouettes alone teach them, and processes wait for gradients that never come.

    How drafts are shown to the network goes on learning.
    """
    for draft in (module for module in model.modules() if isinstance(module, Draft)):
        for name, parameter in draft.named_parameters():
            if not name.startswith(("to_channels.", "area.")):
                parameter.requires_grad_(False)


def draft_errors(out: VideoUNetOutput, mask: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Cross entropy of each draft that a model has with silhouettes `(b, 1, f, h, w)`, by its name."""
    for name, logits, error in (
        ("draft", out.draft, draft_loss),
        ("outline", out.outline, outline_loss),
        ("found", out.found, draft_loss),
    ):
        if logits is not None:
            yield name, error(logits, mask).mean()


def is_fresh(outline: Outline) -> bool:
    """Whether nothing of it has ever been shown to its network."""
    return not outline.to_channels.weight.any()


def teach_outline(outline: Outline, text: Callable[[list[str]], Tensor], data: StorybookData) -> None:
    """A fresh outline learns to draft, on the device where it is; one that its network sees already stays as it is.

    Within a denoiser's training, in whose minutes there are few steps, it would take a third of an hour of them.
    """
    if not is_fresh(outline):
        return
    device = outline.to_channels.weight.device
    optimizer = torch.optim.AdamW(outline.parameters(), _RATE)
    for lesson in range(_LESSONS):
        batch = data.draw(lesson).to(device)
        places = torch.tensor(batch.times, device=device) / (CLOCK - 1)
        optimizer.zero_grad()
        outline_loss(outline.draft(text(batch.captions), places), batch.mask).mean().backward()
        optimizer.step()
