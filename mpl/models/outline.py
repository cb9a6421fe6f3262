"""How the subject is turned, drafted from the text, and shown where the noisy picture has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.layout import Draft
from mpl.models.norm import GroupNorm

_SEEN = 2.0  # an outline's grid reaches so many radii to either side: a bar's ends are 1.7 from its middle
_FAINT = 1e-3  # less of a frame than this, and there is no subject in it to look at
_LOUD = (
    16.0  # of what is shown, beside a feature map that reaches 8: as it is, a quarter of an hour hardly made it heard
)
_RARE = -3.0  # a fresh one finds a subject hardly anywhere, as most cells have it


class Outline(Draft):
    """Drafts the subject's silhouette as seen from near, finds the subject, and shows the first feature map both.

    Which shape, turned how far: a denoiser that was told both by words and a number alone drew what spins at all angles
    at once, since a noisy render shows its angle and only sampling has to know it. Where the subject is and how large,
    the noisy picture shows first; found there, cell by cell, it gets the silhouette that the text gives it. A fresh one
    adds nothing. Both learn from silhouettes alone, as every `Draft`; the finding's error reaches the first feature map
    and the condition as well.

    Args:
        channels, groups: of the feature map, and of norms over it.
        condition_dim: width of the condition vector.
        patch: pixels along a side of a cell of the feature map.
        The others are those of `Draft`.
    """

    def __init__(
        self,
        text_dim: int,
        channels: int,
        groups: int,
        condition_dim: int,
        patch: int,
        grid: Sequence[int],
        width: int = 256,
    ) -> None:
        super().__init__(text_dim, grid, width)
        self.patch = patch
        self.look = nn.Conv2d(channels, channels, 3, padding=1)
        self.look_norm = GroupNorm(groups, channels)
        self.told = nn.Linear(condition_dim, 2 * channels)
        self.find = nn.Conv2d(channels, 1, 3, padding=1)
        self.to_channels = nn.Conv2d(patch**2, channels, 3, padding=1)
        nn.init.constant_(self.find.bias, _RARE)
        for part in (self.to_channels.weight, self.to_channels.bias):
            nn.init.zeros_(part)

    def forward(self, x: Tensor, logits: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The draft `(b, 1, f, rows, columns)` added to `x (b*f, c, h, w)` where its subject is found.

        `condition` is `(b, condition_dim)` or `(b*f, condition_dim)`. Returns the map, and the logits of where the
        subject is, `(b, 1, f, h, w)`.
        """
        told = self.told(condition)
        told = told.repeat_interleave(len(x) // len(told), 0) if len(told) > 1 else told
        found = self.find(F.silu(self.look_norm(self.look(x), *told.chunk(2, 1))))
        with torch.no_grad():
            outline = logits.sigmoid().transpose(1, 2).flatten(0, 2).float()  # (b*f, rows, columns)
            likely = found.sigmoid()[:, 0].float()
            # Squared, many cells that hardly have it weigh less than the few that do.
            placed = at(outline, *middle_and_reach(likely.square()), likely.shape[1:], self.patch)
            placed = placed * likely.amax((1, 2))[:, None, None]
        cells = _LOUD * F.pixel_unshuffle(placed[:, None], self.patch).to(x.dtype)
        return x + self.to_channels(cells), found.unflatten(0, (len(logits), -1)).transpose(1, 2)


def middle_and_reach(masses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Middle (x and y) and reach of what maps `(n, h, w)` show, `(n,)` each, in units of their cells.

    The reach is `_SEEN` times the root of the mean square distance from the middle, however the shape is turned.
    """
    y, x = (torch.arange(side).to(masses) + 0.5 for side in masses.shape[1:])
    total = masses.sum((1, 2)).clamp(min=1e-6)
    columns, rows = masses.sum(1), masses.sum(2)
    # No matrix products: autocast would round them to bfloat16.
    middle_x, middle_y = (columns * x).sum(1) / total, (rows * y).sum(1) / total
    wide = (columns * (x - middle_x[:, None]).square()).sum(1) / total
    high = (rows * (y - middle_y[:, None]).square()).sum(1) / total
    return middle_x, middle_y, _SEEN * (wide + high).clamp(min=0.25).sqrt()


def at(outline: Tensor, x: Tensor, y: Tensor, reach: Tensor, size: Sequence[int], patch: int) -> Tensor:
    """Outlines `(n, rows, columns)` as silhouettes `(n, h*patch, w*patch)`; middles, reach and `size` are in cells."""
    rows, columns = ((torch.arange(side * patch).to(outline) + 0.5) / patch for side in size)
    across, down = ((side - middle[:, None]) / reach[:, None] for side, middle in ((columns, x), (rows, y)))
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
    return F.grid_sample(outline[:, None], grid, align_corners=False)[:, 0]  # beyond the outline is nothing


def seen_from_near(silhouette: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A subject's silhouette `(b, 1, f, h, w)` about its middle, `(b, 1, f, rows, columns)`, and whether it is there.

    As large wherever it is and however it is turned. The second, `(b, f)`, is 1 or 0.
    """
    masses = silhouette.transpose(1, 2).flatten(0, 2)  # (b*f, h, w)
    height, width = masses.shape[1:]
    x, y, reach = (value[:, None, None] for value in middle_and_reach(masses))
    rows, columns = (2 * (torch.arange(count).to(masses) + 0.5) / count - 1 for count in grid)
    across, down = torch.broadcast_tensors(x + reach * columns, y + reach * rows[:, None])
    places = torch.stack([2 * across / width - 1, 2 * down / height - 1], dim=-1)
    seen = F.grid_sample(masses[:, None], places, align_corners=False)  # beyond the picture is nothing
    there = (masses.mean((1, 2)) > _FAINT).to(masses)
    shape = (len(silhouette), silhouette.shape[2])
    return seen.unflatten(0, shape).transpose(1, 2), there.unflatten(0, shape)


def outline_loss(logits: Tensor, silhouette: Tensor) -> Tensor:
    """Cross entropy of an outline's draft with `seen_from_near`, per sample; of frames in which a subject is."""
    target, there = seen_from_near(silhouette, logits.shape[-2:])
    errors = F.binary_cross_entropy_with_logits(logits.float(), target.to(logits.device), reduction="none")
    return (errors.mean((1, 3, 4)) * there.to(errors.device)).mean(1)
