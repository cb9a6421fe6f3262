"""Where the subject is and how it is turned, drafted from the text before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

_USUAL_LOG_AREA = 2.5  # so that the logarithm of a usual share of the picture, 8 %, comes to about 0
_LOUD = 4.0  # of the area beside the map, of an outline beside the timestep: quieter, both took long to be heard
_SEEN = 2.0  # an outline's grid reaches so many radii to either side: a bar's ends are 1.7 from its middle
_FAINT = 1e-3  # less of a frame than this, and there is no subject in it to look at
READINGS = 4  # weighted means of the text's states: of place, of motion, of size, and one more


class Draft(nn.Module):
    """A picture of few cells for each frame, from text and the frame's place in the clip.

    Where "rises" is when, and how "spins" has turned it, are functions of a sentence and a number, which take a
    perceptron minutes to learn from silhouettes, and take a denoiser, which has to find them in the pictures' noise,
    hours. It learns from silhouettes alone (`draft_loss`): the denoiser's gradient, far noisier, would drown theirs.

    Args:
        text_dim: width of the text's states.
        grid: rows and columns of the draft.
        width: of the hidden layers.
    """

    def __init__(self, text_dim: int, grid: Sequence[int], width: int = 192) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.norm = nn.LayerNorm(text_dim)
        self.attention = nn.Linear(text_dim, READINGS)
        self.said = nn.Linear(READINGS * text_dim, width)
        self.waves = Timesteps(64, True, 0)
        self.when = nn.Linear(64, width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, self.grid[0] * self.grid[1])

    def draft(self, text: Tensor, places: Tensor) -> Tensor:
        """Logits `(b, 1, f, rows, columns)` from `text (b, tokens, dim)` and `places (b, f)`, 0 to 1."""
        states = self.norm(text)
        weights = self.attention(states).softmax(dim=1)  # over tokens
        said = self.said((weights.mT @ states).flatten(1))
        when = self.when(self.waves(1000 * places.flatten()).to(said.dtype)).unflatten(0, places.shape)
        hidden = F.silu(said[:, None] + when)
        logits = self.out(F.silu(self.hidden(hidden)))
        return logits.unflatten(2, self.grid)[:, None]


class Layout(Draft):
    """Drafts the subject's silhouette in the whole picture, and adds it to the first feature map.

    Text-to-layout, then layout-to-picture (as LayoutGPT, Feng et al. 2023, with a language model), inside one network.
    A fresh one adds nothing. Where the text leaves a place open, the draft is the mean of them all.

    Args:
        channels: of the feature map. The others are those of `Draft`.
    """

    def __init__(self, text_dim: int, channels: int, grid: Sequence[int], width: int = 192) -> None:
        super().__init__(text_dim, grid, width)
        self.to_channels = nn.Conv2d(1, channels, 3, padding=1)
        self.area = nn.Linear(1, channels)
        for layer in (self.to_channels, self.area):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        """The draft `(b, 1, f, rows, columns)` added to `x (b*f, c, h, w)`, stretched to its size.

        It is seen as probabilities: in logits, a small subject whose place is open differs little from a large one. How
        large the subject is, their sum, is said beside them: where its place is open, no part of the map shows that.
        """
        likely = logits.detach().sigmoid().transpose(1, 2).flatten(0, 1).to(x.dtype)  # (b*f, 1, rows, columns)
        area = self.area(_LOUD * ((likely.mean((2, 3)) + 1e-3).log() + _USUAL_LOG_AREA))
        draft = 2 * likely - 1
        if draft.shape[-2:] != x.shape[-2:]:
            draft = F.interpolate(draft, x.shape[-2:], mode="bilinear")
        return x + self.to_channels(draft) + area[:, :, None, None]


class Outline(Draft):
    """Drafts the subject's silhouette as seen from near, wherever it is, and adds it to each frame's condition vector.

    Which shape, turned how far: a denoiser that was told both by words and a number alone drew what spins at all angles
    at once, since a noisy render shows its angle and only sampling has to know it. A fresh one adds nothing.

    Args:
        condition_dim: width of the condition vector. The others are those of `Draft`.
    """

    def __init__(self, text_dim: int, condition_dim: int, grid: Sequence[int], width: int = 256) -> None:
        super().__init__(text_dim, grid, width)
        self.to_condition = nn.Linear(self.grid[0] * self.grid[1], condition_dim)
        nn.init.zeros_(self.to_condition.weight)
        nn.init.zeros_(self.to_condition.bias)

    def forward(self, condition: Tensor, logits: Tensor) -> Tensor:
        """The draft `(b, 1, f, rows, columns)` added to `condition (b, dim)` or `(b*f, dim)`: `(b*f, dim)`."""
        likely = logits.detach().sigmoid()[:, 0].flatten(2).flatten(0, 1).to(condition.dtype)
        if len(condition) < len(likely):
            condition = condition.repeat_interleave(len(likely) // len(condition), 0)
        return condition + self.to_condition(_LOUD * (2 * likely - 1))


def seen_from_near(silhouette: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A subject's silhouette `(b, 1, f, h, w)` about its middle, `(b, 1, f, rows, columns)`, and whether it is there.

    The grid reaches `_SEEN` times the root of the mean square distance from the middle to either side, so that it shows
    a subject as large wherever it is and however it is turned. The second, `(b, f)`, is 1 or 0.
    """
    masses = silhouette.transpose(1, 2).flatten(0, 2)  # (b*f, h, w)
    height, width = masses.shape[1:]
    y, x = torch.arange(height).to(masses) + 0.5, torch.arange(width).to(masses) + 0.5
    total = masses.sum((1, 2)).clamp(min=1e-6)
    middle_x, middle_y = (masses.sum(1) @ x) / total, (masses.sum(2) @ y) / total
    squares = (masses.sum(1) @ x.square() + masses.sum(2) @ y.square()) / total - middle_x.square() - middle_y.square()
    reach = _SEEN * squares.clamp(min=0.25).sqrt()
    rows, columns = (2 * (torch.arange(count).to(masses) + 0.5) / count - 1 for count in grid)
    at_x = middle_x[:, None, None] + reach[:, None, None] * columns
    at_y = middle_y[:, None, None] + reach[:, None, None] * rows[:, None]
    at = torch.stack(torch.broadcast_tensors(2 * at_x / width - 1, 2 * at_y / height - 1), dim=-1)
    seen = F.grid_sample(masses[:, None], at, align_corners=False)  # beyond the picture is nothing
    there = (masses.mean((1, 2)) > _FAINT).to(masses)
    shape = (len(silhouette), silhouette.shape[2])
    return seen.unflatten(0, shape).transpose(1, 2), there.unflatten(0, shape)


def draft_loss(logits: Tensor, silhouette: Tensor) -> Tensor:
    """Cross entropy of a draft `(b, 1, f, rows, columns)` with a silhouette `(b, 1, f, h, w)` in [0, 1], per sample."""
    coarse = F.adaptive_avg_pool2d(silhouette.transpose(1, 2).flatten(0, 2), logits.shape[-2:])
    target = coarse.unflatten(0, (len(logits), logits.shape[2], 1)).transpose(1, 2).to(logits.device)
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").flatten(1).mean(1)


def outline_loss(logits: Tensor, silhouette: Tensor) -> Tensor:
    """Cross entropy of an outline's draft with `seen_from_near`, per sample; of frames in which a subject is."""
    target, there = seen_from_near(silhouette, logits.shape[-2:])
    errors = F.binary_cross_entropy_with_logits(logits.float(), target.to(logits.device), reduction="none")
    return (errors.mean((1, 3, 4)) * there.to(errors.device)).mean(1)
