"""Outlines: silhouettes as seen from near, drafted from text and time, and shown where they are found."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch.nn import functional as F

from mpl.models.outline import Outline, at, middle_and_reach, outline_loss, seen_from_near


def small_outline(grid: tuple[int, int] = (12, 12)) -> Outline:
    return Outline(text_dim=8, channels=8, groups=4, condition_dim=16, patch=4, grid=grid)


def bar(angle: float, middle: tuple[float, float], length: float, size: tuple[int, int] = (60, 96)) -> torch.Tensor:
    """A bar, four times as long as wide, as a silhouette (h, w); `middle` is its x and y."""
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    x, y = x - middle[0], y - middle[1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return ((along.abs() < length / 2) & (across.abs() < length / 8)).float()


def test_from_near_a_subject_looks_alike_wherever_it_is_and_however_large():
    shown = [bar(0.6, (30, 25), 20), bar(0.6, (60, 33), 36), bar(0.6 + math.pi / 2, (60, 33), 36)]
    seen, there = seen_from_near(torch.stack(shown)[None, None], (12, 12))
    small, large, turned = seen[0, 0]
    assert there.tolist() == [[1, 1, 1]]
    assert (small - large).abs().mean() < 0.05 < 0.2 < (turned - large).abs().mean()
    assert (turned - large.T.flip(1)).abs().mean() < 0.02  # a quarter of a turn
    assert large[0].max() == 0 and large.sum() > 12  # all of it, and not lost in the grid


def test_where_no_subject_is_no_outline_is_learned():
    shown = torch.stack([bar(0.0, (48, 30), 40), torch.zeros(60, 96)])[None, None]
    target, there = seen_from_near(shown, (6, 6))
    assert there.tolist() == [[1, 0]]
    logits = torch.stack([torch.full((6, 6), 3.0), torch.full((6, 6), -50.0)])[None, None].requires_grad_()
    outline_loss(logits, shown).sum().backward()
    assert logits.grad[0, 0, 0].abs().min() > 0 and not logits.grad[0, 0, 1].any()
    right = torch.logit(target.clamp(1e-6, 1 - 1e-6))
    assert outline_loss(right, shown) < outline_loss(right.flip(2), shown)


def test_an_outline_turns_with_time_as_the_text_says():
    """From silhouettes alone, wherever they are: of one text the bar turns, of another it stays as it is."""
    torch.manual_seed(0)
    outline, text, places = small_outline((8, 8)), torch.randn(2, 5, 8), torch.linspace(0, 1, 4).expand(2, 4)
    angles = [[i * math.pi / 4 for i in range(4)], [0.0] * 4]
    optimizer, rng = torch.optim.Adam(outline.parameters(), 3e-3), random.Random(0)
    for _ in range(120):
        shown = [
            [bar(a, (rng.uniform(30, 60), rng.uniform(25, 35)), rng.uniform(20, 30)) for a in row] for row in angles
        ]
        optimizer.zero_grad()
        outline_loss(
            outline.draft(text, places), torch.stack([torch.stack(row) for row in shown])[:, None]
        ).mean().backward()
        optimizer.step()
    with torch.no_grad():
        drafts = outline.draft(text, places).sigmoid()[:, 0]
    for row, turns in zip(drafts, angles, strict=True):
        wanted = seen_from_near(torch.stack([bar(a, (48, 30), 30) for a in turns])[None, None], (8, 8))[0][0, 0]
        assert (row - wanted).abs().mean() < 0.1
    assert (drafts[0] - drafts[1])[2].abs().mean() > 0.2


def test_what_is_seen_from_near_comes_back_where_it_was():
    shown = torch.stack([bar(0.6, (30, 26), 24), bar(1.9, (60, 33), 36), bar(0.0, (50, 30), 30)])
    seen, _ = seen_from_near(shown[None, None], (24, 24))
    cells = F.avg_pool2d(shown[:, None], 4)[:, 0]
    x, y, reach = middle_and_reach(cells)
    torch.testing.assert_close(
        torch.stack([x, y], 1) * 4, torch.tensor([[30.0, 26], [60, 33], [50, 30]]), atol=0.3, rtol=0
    )
    back = at(seen[0, 0], x, y, reach, cells.shape[1:], 4)
    assert back.shape == shown.shape
    overlap = (back * shown).sum((1, 2)) / torch.maximum(back, shown).sum((1, 2))
    assert overlap.min() > 0.75


def test_an_outline_is_shown_where_its_subject_is_found():
    """Where the map says so; and a fresh outline adds nothing, wherever."""
    outline, x, condition = small_outline(), torch.randn(4, 8, 15, 24), torch.randn(2, 16)
    logits = torch.full((2, 1, 2, 12, 12), 20.0)
    with torch.no_grad():
        same, found = outline(x, logits, condition)
        assert found.shape == (2, 1, 2, 15, 24)
        torch.testing.assert_close(same, x, rtol=0, atol=0)
        torch.nn.init.ones_(outline.to_channels.weight)
        for middle in ((9, 7), (15, 8)):
            there = torch.full((4, 1, 15, 24), -20.0)
            there[:, :, middle[1] - 2 : middle[1] + 3, middle[0] - 2 : middle[0] + 3] = 20.0
            hook = outline.find.register_forward_hook(lambda *a, there=there: there)
            added = outline(torch.zeros_like(x), logits, condition)[0][0, 0]
            hook.remove()
            rows, columns = added.nonzero(as_tuple=True)
            assert abs(rows.float().mean() - middle[1]) < 0.3 and abs(columns.float().mean() - middle[0]) < 0.3
            assert 8 <= rows.max() - rows.min() <= 11  # twice its radius to either side


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_frame_s_condition_helps_to_find_and_any_format_will_do(dtype):
    outline, x = small_outline().to(dtype), torch.randn(6, 8, 5, 8, dtype=dtype)
    logits, condition = torch.randn(2, 1, 3, 12, 12, dtype=dtype), torch.randn(2, 16, dtype=dtype)
    with torch.no_grad():
        _, by_clip = outline(x, logits, condition)
        _, by_frame = outline(x, logits, condition.repeat_interleave(3, 0))
        _, other = outline(x, logits, -condition)
    torch.testing.assert_close(by_clip, by_frame)
    assert by_clip.dtype == dtype and not torch.allclose(by_clip, other)


def test_middles_are_exact_under_autocast_too():
    """Whose matrix products would round a place to a quarter of a pixel, and its square to several."""
    cells = F.avg_pool2d(bar(0.6, (81, 47), 12)[None, None], 4)[:, 0]
    plain = torch.stack(middle_and_reach(cells))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.stack(middle_and_reach(cells)), plain, rtol=0, atol=0)
