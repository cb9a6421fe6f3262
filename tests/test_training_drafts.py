"""How drafts learn: a fresh outline from silhouettes alone, before its network sees any of them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_toys import arguments, short_samples
from unet_configs import SMALL

from mpl.models import VideoUNet
from mpl.models.outline import Outline, outline_loss
from mpl.storybook.render import render_with_mask
from mpl.storybook.scene import sample_scene
from mpl.training import denoisers, drafts
from mpl.training.command import make_task, run
from mpl.training.data import Batch
from mpl.training.options import CLOCK, TaskOptions, load_task
from mpl.training.turn import HIGHEST, LOWEST


class Rockets:
    """Batches of rockets, every other one spinning, whose captions say only that."""

    def draw(self, seed: int) -> Batch:
        rng, times = random.Random(seed), tuple(float(4 * i) for i in range(8))
        motions = ["spins", "rises"] * 3
        scenes = [sample_scene(rng, "train", subject="rocket", motion=motion) for motion in motions]
        clip, mask = render_with_mask(scenes, [times] * len(scenes), 40, 64)
        return Batch(clip, motions, mask, times=(times,) * len(scenes))


def words(captions: list[str]) -> Tensor:
    """States that say which of the two."""
    turns = torch.tensor([float(caption == "spins") for caption in captions])
    return torch.stack([turns, 1 - turns, torch.ones(len(turns)), -torch.ones(len(turns))], dim=1)[:, None]


def test_a_fresh_outline_learns_how_its_subject_is_turned_and_a_known_one_stays(monkeypatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(drafts, "_LESSONS", 80)
    outline = Outline(text_dim=4, channels=8, groups=4, condition_dim=8, patch=4, grid=(8, 8), width=64)
    drafts.teach_outline(outline, words, Rockets())
    batch = Rockets().draw(10_000)
    times = torch.tensor(batch.times) / (CLOCK - 1)
    spins = torch.tensor([caption == "spins" for caption in batch.captions])
    with torch.no_grad():
        right, wrong = (
            outline_loss(outline.draft(words(batch.captions), places), batch.mask) for places in (times, times.flip(1))
        )
    assert right[spins].mean() < 0.8 * wrong[spins].mean()
    assert right[~spins].mean() < 0.35  # of a coin's 0.69
    torch.nn.init.ones_(outline.to_channels.weight)
    before = {name: value.clone() for name, value in outline.state_dict().items()}
    drafts.teach_outline(outline, words, Rockets())
    assert all(torch.equal(value, before[name]) for name, value in outline.state_dict().items())


def test_every_draft_of_a_model_has_an_error_of_its_own_that_teaches_all_of_it() -> None:
    torch.manual_seed(0)
    model = VideoUNet(**SMALL, layout_grid=[4, 4], outline_grid=[4, 4])
    text, mask = torch.randn(2, 4, model.config.encoder_hid_dim), (torch.rand(2, 1, 3, 8, 16) > 0.5).float()
    errors = dict(drafts.draft_errors(model(torch.randn(2, 3, 3, 8, 16), torch.tensor([5, 900]), text), mask))
    assert list(errors) == ["draft", "outline", "found"]
    sum(errors.values()).backward()
    shows = ("to_channels", "area")
    for part in (model.layout_draft, model.outline_draft):
        learned = {name.split(".")[0] for name, p in part.named_parameters() if p.grad is not None}
        assert learned >= {name.split(".")[0] for name, _ in part.named_parameters()} - set(shows)
    assert model.outline_draft.to_channels.weight.grad is None  # the picture's own error teaches that
    drafts.freeze_drafting(model)
    left = {n for n, p in model.named_parameters() if p.requires_grad and "draft" in n}
    assert left and all(name.split(".")[1] in shows for name in left)
    plain = VideoUNet(**SMALL)
    assert not list(drafts.draft_errors(plain(torch.randn(2, 3, 3, 8, 16), torch.tensor([5, 900]), text), mask))


def outlined(trained: Path, **data: object) -> TaskOptions:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    model, data = options.model | {"outline_grid": [4, 4]}, replace(options.data, **data)
    return replace(options, model=model, data=data)


def test_a_fresh_run_teaches_its_outline_first_and_one_that_goes_on_does_not(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "_LESSONS", 2)
    taught = []
    monkeypatch.setattr(denoisers, "teach_outline", lambda *a: taught.append(1) or drafts.teach_outline(*a))
    preset = tmp_path / "outlined.toml"
    preset.write_text(f'extends = "{trained / "tiny.toml"}"\n[keyframes]\nmodel = {{ outline_grid = [4, 4] }}\n')
    options = {"what": "keyframes", "preset": str(preset), "assets": trained / "assets", "out": tmp_path / "out"}
    options |= {"work": tmp_path / "work"}
    for steps in (1, 2):
        with short_samples():
            assert run(arguments(max_steps=steps, **options))["steps"] == steps
        assert len(taught) == 1
    model = VideoUNet.from_pretrained(tmp_path / "out" / "unet")
    assert model.outline_draft.to_channels.weight.any()  # its second step has shown the network something


def test_the_lessons_reach_the_model(trained, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "_LESSONS", 2)
    task = make_task(outlined(trained), trained / "assets", None)
    before = task.model.outline_draft.out.weight.clone()
    task.prepare()
    assert not torch.equal(task.model.outline_draft.out.weight, before)
    assert not task.model.outline_draft.to_channels.weight.any()


def test_a_fresh_outline_that_nothing_would_teach_is_refused(trained) -> None:
    options = outlined(trained)
    untaught = replace(options, loss=replace(options.loss, draft_weight=0.0))
    with pytest.raises(ValueError, match=r"keyframes.model.outline_grid = \[4, 4\]: a fresh one learns with"):
        make_task(untaught, trained / "assets", None)


def test_keyframes_are_shown_turned_subjects_where_noise_leaves_them_to_be_turned(trained) -> None:
    options = outlined(trained)
    task = make_task(replace(options, loss=replace(options.loss, turned_share=1.0)), trained / "assets", None)
    batch = task.draw(3, 1.0)
    assert batch.drawn is not None and not torch.allclose(batch.drawn, batch.clip)
    for t, wrong in ((LOWEST - 1, False), (LOWEST, True), (HIGHEST - 1, True), (HIGHEST, False)):
        shown = task.shown(batch, torch.full((len(batch.clip),), t))
        assert torch.equal(shown, batch.drawn if wrong else batch.clip)
    assert make_task(options, trained / "assets", None).draw(3, 1.0).drawn is None
