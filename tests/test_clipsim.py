"""CLIPSIM by hand, on a CLIP with random weights in the published layout, and on the shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_toys import make_clip

from mpl.evaluation.clipsim import ClipScorer
from mpl.evaluation.metrics import clip_similarity
from mpl.storybook.captions import caption
from mpl.storybook.render import render
from mpl.storybook.scene import scene_for_index
from mpl.video import to_frames

SHIPPED = Path(__file__).resolve().parent.parent / "assets" / "storybook" / "clip"


def test_three_vectors_by_hand() -> None:
    """Cosines 1 and 0 with the first caption, 0.6 and 0.8 with the second; lengths do not matter."""
    pictures = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert clip_similarity(pictures, torch.tensor([[3.0, 0.0]])).item() == pytest.approx(0.5)
    assert clip_similarity(pictures, torch.tensor([[3.0, 0.0], [6.0, 8.0]])).item() == pytest.approx(0.6)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    make_clip(folder, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
    return folder


def test_published_pictures_are_cut_from_the_middle_and_normed(published: Path) -> None:
    frames = np.zeros((2, 16, 48, 3), np.uint8)
    frames[:, :, 16:32] = (51, 102, 204)
    pictures = ClipScorer(published).prepare(frames)
    assert pictures.shape == (2, 3, 16, 16)
    wanted = torch.tensor([(0.2 - 0.5) / 0.1, (0.4 - 0.4) / 0.2, (0.8 - 0.3) / 0.4])
    assert torch.allclose(pictures, wanted.view(3, 1, 1).expand_as(pictures), atol=1e-4)
    larger = np.repeat(np.repeat(frames, 3, axis=1), 3, axis=2)
    assert torch.allclose(ClipScorer(published).prepare(larger)[..., 2:14], pictures[..., 2:14], atol=0.05)


def test_the_score_is_the_model_s_own_cosine(published: Path) -> None:
    """Of one frame and one prompt it is `logits_per_image` without the learned scale."""
    scorer = ClipScorer(published)
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    tokens = scorer.tokenizer(["a red car"], padding="max_length", max_length=12, return_tensors="pt")
    inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = scorer.model(pixel_values=scorer.prepare(frames), **inputs).logits_per_image
    assert scorer.score("a  red car", frames) == pytest.approx(
        (logits / scorer.model.logit_scale.exp()).item(), abs=1e-5
    )


def test_a_tokenizer_that_does_not_know_its_length_has_the_models(published: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    scorer = ClipScorer(published)
    wanted = scorer.score("a red car", frames)
    scorer.tokenizer.model_max_length = int(1e30)  # as where there is no tokenizer_config.json
    assert scorer.score("a red car", frames) == wanted


def test_the_shipped_clip_prefers_what_a_render_shows() -> None:
    import random

    scorer, right = ClipScorer(SHIPPED), 0
    scenes = [scene_for_index(i, "heldout") for i in range(8)]
    texts = [caption(scene, random.Random(i), style="full").text for i, scene in enumerate(scenes)]
    for i, scene in enumerate(scenes):
        frames = to_frames(render(scene, [0.0, 14.0, 28.0], 160, 288))
        scores = [scorer.score(text, frames) for text in texts]
        right += scores[i] == max(scores)
    assert right >= 6


def test_no_clip_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CLIP there; train one with"):
        ClipScorer(tmp_path)
