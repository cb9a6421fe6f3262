"""Where the subject is, drafted from the text before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

_USUAL_LOG_AREA = 2.5  # so that the logarithm of a usual share of the picture, 8 %, comes to about 0
_LOUD = 4.0  # of the area beside the map: said no louder than one cell, it took half an hour to be heard a little
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


def draft_loss(logits: Tensor, silhouette: Tensor) -> Tensor:
    """Cross entropy of a draft `(b, 1, f, rows, columns)` with a silhouette `(b, 1, f, h, w)` in [0, 1], per sample."""
    coarse = F.adaptive_avg_pool2d(silhouette.transpose(1, 2).flatten(0, 2), logits.shape[-2:])
    target = coarse.unflatten(0, (len(logits), logits.shape[2], 1)).transpose(1, 2).to(logits.device)
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").flatten(1).mean(1)
