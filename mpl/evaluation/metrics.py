"""Pure figures: tensors and counts in, numbers out. Knows no networks, no files, no worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mpl.intervals import student


def mean_interval(values: Tensor) -> dict[str, float | None]:
    """Mean of values (n,) with its 95 % interval by Student's t; a single value has none."""
    mean = values.mean().item()
    if len(values) < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    half = student(len(values) - 1) * values.std().item() / len(values) ** 0.5
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def psnr(result: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per clip, (b,): both (b 3 f h w) in [-1, 1], so the peak is 2."""
    error = (result - truth).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def feature_distance(result: Tensor, truth: Tensor) -> Tensor:
    """Mean Euclidean distance of paired features, (b,): both (b f d)."""
    return (result - truth).norm(dim=-1).mean(1)


def gradient_energy(clip: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, (b,): how much fine detail a clip (b 3 f h w) has."""
    across, down = clip.diff(dim=-1).square(), clip.diff(dim=-2).square()
    return across.flatten(1).mean(1) + down.flatten(1).mean(1)


def clip_similarity(pictures: Tensor, text: Tensor) -> Tensor:
    """CLIPSIM (Wu et al. 2021, GODIVA): mean cosine of pictures (f d) and texts (n d), over frames and captions."""
    pictures, text = (x / x.norm(dim=-1, keepdim=True) for x in (pictures, text))
    return (pictures @ text.mT).mean()


def flicker(clip: Tensor, background: Tensor) -> Tensor:
    """Median change from one frame to the next over background pixels, (), in steps of 1/255; NaN where there are none.

    Both (1 c f h w): a clip in [-1, 1], and true where the background is in view. A pixel counts where both frames show
    it.
    """
    change = (clip.diff(dim=2).abs().mean(1, keepdim=True) * 127.5).double()
    both = background[:, :, 1:] & background[:, :, :-1]
    # torch's own quantile takes no more than 2^24 numbers: eighteen frames of 1280x720.
    return torch.tensor(np.median(change[both].numpy()) if both.any() else np.nan)


def steadiness(logits: Mapping[str, Tensor]) -> dict[str, bool]:
    """Whether all frames are taken for the same, by attribute: logits (1 f values), the largest of each frame."""
    return {name: bool((seen := of[0].argmax(-1)).eq(seen[0]).all()) for name, of in logits.items()}


class _Given(nn.Module):
    """Features that are there already, for torchmetrics, which asks a network for them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(result: Tensor, truth: Tensor) -> float:
    """Fréchet distance of two sets of features (n d) and (m d), n and m from 2 on, by torchmetrics.

    Squared distance of means and of covariances (Heusel et al. 2017), these unbiased, in float64. Of few samples it is
    too large, so that only sets of the same size can be compared.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Given(truth.shape[1])).set_dtype(torch.float64)
    metric.update(truth.double(), real=True)
    metric.update(result.double(), real=False)
    return metric.compute().item()


def consistency(features: Tensor) -> Tensor:
    """Mean cosine of the features (f d) of neighbouring frames, (), in [-1, 1]."""
    unit = features / features.norm(dim=-1, keepdim=True)
    return (unit[1:] * unit[:-1]).sum(-1).mean()


def seam_ratio(clip: Tensor, starts: Sequence[int]) -> Tensor:
    """Mean change from the frame before to each of the frames `starts`, over that between all other neighbours, ().

    Of a clip (1 3 f h w); 1 where the borders do not show.
    """
    change = clip.diff(dim=2).abs().mean((0, 1, 3, 4))
    border = torch.zeros(len(change), dtype=torch.bool)
    border[[start - 1 for start in starts]] = True
    return change[border].mean() / change[~border].mean()
