"""What the denoisers minimise, with known answers, and where their tensors are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor, nn

from mpl.training.autoencoder import VaeTask
from mpl.training.data import Batch
from mpl.training.degrade import PairBatch
from mpl.training.denoisers import DenoiserTask, InterpolationTask, SuperresTask
from mpl.training.latent import TranslationTask
from mpl.training.objectives import level_weights, mean_of
from mpl.training.options import DataOptions, LossOptions, TaskOptions

SCHEDULER = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
CLIP = (4, 3, 5, 8, 16)


class Answer(nn.Module):
    """A network that remembers what it was asked and says `answer(noisy, t)`, by default zero."""

    def __init__(self, answer: object = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.answer = answer or (lambda noisy, t: torch.zeros_like(noisy[:, :3]))

    def forward(
        self, noisy: Tensor, t: Tensor, states: Tensor, class_labels: Tensor | None = None, **told: object
    ) -> SimpleNamespace:
        self.noisy, self.t, self.states, self.labels, self.told = noisy, t, states, class_labels, told
        return SimpleNamespace(sample=self.answer(noisy, t) + self.bias)


class Words(nn.Module):
    """Text states that need no encoder: ones for a caption, zeros for the empty one."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, captions: list[str]) -> Tensor:
        rows = [float(bool(caption)) for caption in captions]
        return torch.tensor(rows).view(-1, 1, 1).expand(-1, 2, 4).to(self.place.device)


def toy(kind: type, monkeypatch: pytest.MonkeyPatch, prediction: str = "v_prediction", **loss: object) -> DenoiserTask:
    """A task of `kind` whose network and text are the ones above."""
    monkeypatch.setattr(kind, "build_text", lambda self: Words())
    monkeypatch.setattr(kind, "build_model", lambda self, init_from: Answer())
    if kind is TranslationTask:
        monkeypatch.setattr(kind, "sibling", lambda self, path, maker: path)
        tiny = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
        monkeypatch.setattr(AutoencoderKL, "from_pretrained", lambda path, torch_dtype: tiny)
    scheduler = SCHEDULER | {"prediction_type": prediction}
    data = DataOptions(batch=4, frames=5, height=8, width=16)
    options = TaskOptions("toy", scheduler=scheduler, loss=LossOptions(**{"p_drop": 0.0, **loss}), data=data)
    return kind(options, None, None)


def ask(task: DenoiserTask, batch: object, seed: int = 0) -> tuple[float, dict[str, Tensor]]:
    loss, figures = task.loss(task.model, batch, torch.Generator().manual_seed(seed))
    return loss.item(), figures


def clips(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, *CLIP[1:], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_network_that_knows_the_clip_has_no_loss(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, clip = toy(DenoiserTask, monkeypatch, prediction), clips()

    def answer(noisy: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = task.schedule.coefficients(t, noisy)
        noise = (noisy - alpha * clip) / sigma
        said = {"epsilon": noise, "sample": clip, "v_prediction": alpha * noise - sigma * clip}[prediction]
        return torch.cat([said, 100 * torch.ones_like(said)], dim=1)  # a learned variance takes no part

    task.model = Answer(answer)
    loss, _ = ask(task, Batch(clip, ["a"] * 4))
    assert loss < 1e-6


def test_clean_picture_errors_are_weighted_by_their_noise_level(monkeypatch: pytest.MonkeyPatch) -> None:
    task, clip = toy(DenoiserTask, monkeypatch, "sample", max_weight=5.0), clips()
    loss, figures = ask(task, Batch(clip, ["a"] * 4))
    t = task.model.t
    errors = clip.square().flatten(1).mean(1) * level_weights(t, task.schedule, 5.0)
    assert len(set(level_weights(t, task.schedule, 5.0).tolist())) > 1
    assert loss == pytest.approx(errors.mean().item(), rel=1e-5)
    noisy = task.schedule.log_snr[t] < 0
    assert figures["loss_noisy"].item() == pytest.approx(errors[noisy].mean().item(), rel=1e-5)
    assert figures["loss_clean"].item() == pytest.approx(errors[~noisy].mean().item(), rel=1e-5)


def test_frames_of_mixed_noise_have_their_share_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy(DenoiserTask, monkeypatch, mixed_noise=1.0)
    ask(task, Batch(torch.zeros(CLIP), ["a"] * 4))
    noisy = task.model.noisy
    assert (noisy == noisy[:, :, :1]).all() and noisy.abs().max() > 0


def test_dropped_captions_are_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for share, expected in ((0.0, 1.0), (1.0, 0.0)):
        task = toy(DenoiserTask, monkeypatch, p_drop=share)
        ask(task, Batch(clips(), ["a"] * 4))
        assert (task.model.states == expected).all()


def test_single_frames_train_the_image_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy(DenoiserTask, monkeypatch)
    for frames, temporal in ((5, True), (1, False)):
        ask(task, Batch(clips()[:, :, :frames], ["a"] * 4))
        assert task.model.told["temporal"] is temporal


def test_frames_are_told_when_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the clock of 29 frames, from 0 to 1; frames of a folder's videos have no such time."""
    task = toy(DenoiserTask, monkeypatch)
    ask(task, Batch(clips()[:, :, :2], ["a"] * 4, times=((7.0, 28.0),) * 4))
    assert task.model.told["places"].tolist() == [[0.25, 1.0]] * 4
    ask(task, Batch(clips(), ["a"] * 4))
    assert task.model.told["places"] is None


def test_given_frames_count_as_the_option_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network errs by 1 in the middle frame alone, or in the first alone."""
    losses = []
    for wrong in (2, 0):
        task, clip = toy(InterpolationTask, monkeypatch, "sample", given_weight=0.2), clips()
        said = clip.clone()
        said[:, :, wrong] += 1
        task.model = Answer(lambda noisy, t, said=said: said)
        losses.append(ask(task, Batch(clip, ["a"] * 4))[0])
    mean = (3 + 2 * 0.2) / 5  # of the weights, which are made to have mean 1
    assert losses == pytest.approx([1 / 5 / mean, 0.2 / 5 / mean], rel=1e-4)


@pytest.mark.parametrize("fill", ["zeros", "linear"])
def test_interpolation_is_given_what_the_stage_gives(fill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.stages.interpolation import gap_condition

    task, clip = toy(InterpolationTask, monkeypatch, fill=fill), clips()
    ask(task, Batch(clip, ["a"] * 4))
    assert torch.equal(task.model.noisy[:, 3:], gap_condition(clip[:, :, 0], clip[:, :, -1], 3, fill))


def test_noise_augmentation_touches_the_given_frames_only_above_level_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    task, clip = toy(InterpolationTask, monkeypatch, noise_level_max=3), clips(40)
    generator = torch.Generator().manual_seed(1)
    given = task.condition(Batch(clip, ["a"] * 40), generator).channels
    levels = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(1))
    same = (given[:, :3, [0, -1]] == clip[:, :, [0, -1]]).flatten(1).all(1)
    assert torch.equal(same, levels == 0) and same.any() and not same.all()
    assert (given[:, :3, 1:-1] == 0).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_true_first_frames(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    task, clip = toy(SuperresTask, monkeypatch, noise_level_max=301, first_frame_share=share), clips()
    ask(task, Batch(clip, ["a"] * 4, whole=clip))
    condition = task.model.noisy[:, 3:]
    assert torch.equal(condition[:, :, 0], clip[:, :, 0]) == bool(share)
    assert not torch.equal(condition[:, :, 1], clip[:, :, 1])
    assert task.model.labels.shape == (4,) and task.model.labels.max() < 301


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_of_a_degraded_start_leads_to_the_sharp_latent(
    prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy(TranslationTask, monkeypatch, prediction, degraded_share=1.0, cap=900)
    sharp, blurred = clips(64), clips(64, seed=1)

    def answer(noisy: Tensor, t: Tensor) -> Tensor:
        """What says that the clean latent is the sharp one."""
        alpha, sigma = task.schedule.coefficients(t, noisy)
        noise = (noisy - alpha * sharp) / sigma
        return noise if prediction == "epsilon" else alpha * noise - sigma * sharp

    task.model = Answer(answer)
    loss, figures = ask(task, PairBatch(sharp, blurred, ["a"] * 64))
    assert loss < 1e-6
    degraded = task.model.t >= 60
    assert degraded.any() and not degraded.all() and task.model.t.max() <= 900
    assert figures["loss_degraded"] == figures["loss_degraded"]
    # The others start from the sharp latent: what noise they hold has unit variance.
    alpha, sigma = task.schedule.coefficients(task.model.t, sharp)
    noise = ((task.model.noisy - alpha * sharp) / sigma).flatten(1).std(1)
    shown = ((task.model.noisy - alpha * blurred) / sigma).flatten(1).std(1)
    assert torch.allclose(noise[~degraded], torch.ones(1), atol=0.15)
    assert torch.allclose(shown[degraded], torch.ones(1), atol=0.15)


def test_means_of_none_are_no_number() -> None:
    values = torch.tensor([1.0, float("inf"), 3.0])
    assert mean_of(values, torch.tensor([True, False, True])).item() == 2.0
    assert mean_of(values, torch.tensor([False] * 3)).isnan()


def test_losses_are_where_the_accelerator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device, which refuses tensors of the CPU as a GPU would."""
    there = torch.device("meta")
    plain = Batch(clips(), ["a"] * 4, mask=torch.ones(4, 1, 5, 8, 16), whole=clips())
    latents = PairBatch(clips().to(there), clips().to(there), ["a"] * 4)
    for kind in (DenoiserTask, InterpolationTask, SuperresTask, TranslationTask):
        task = toy(kind, monkeypatch, "sample", noise_level_max=100, degraded_share=0.5, subject_weight=2.0)
        task.to(there)
        batch = latents if kind is TranslationTask else plain.to(there)
        loss, figures = task.loss(task.model, batch, torch.Generator().manual_seed(0))
        assert {loss.device.type, *(f.device.type for f in figures.values())} == {"meta"}
        assert task.model.t.device == task.model.noisy.device == task.model.states.device == there


def test_the_autoencoder_s_loss_is_where_the_accelerator_is() -> None:
    model = {"block_out_channels": [8, 8], "norm_num_groups": 4, "layers_per_block": 1}
    model |= {
        f"{way}_block_types": [f"{way.title()}{coder}Block2D"] * 2
        for way, coder in (("down", "Encoder"), ("up", "Decoder"))
    }
    task = VaeTask(TaskOptions("vae", model=model, data=DataOptions(batch=1)), None, None)
    task.to("meta")
    frames = torch.zeros(2, 3, 16, 16, device="meta")
    batch = PairBatch(frames, torch.zeros(1, 4, 8, 8, device="meta"), ["a"])
    for seed in range(6):  # plain, mirrored and halved
        loss, _ = task.loss(task.model, batch, torch.Generator().manual_seed(seed))
        assert loss.device.type == "meta"


def test_any_scheduler_walks_from_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"):
        monkeypatch.setitem(SCHEDULER, "_class_name", name)
        task = toy(TranslationTask, monkeypatch, "sample")
        scheduler, grid = task.grid(10)
        x = task.walk(lambda x, t: torch.zeros_like(x), clips(1), scheduler, grid[grid <= 500])
        assert x.shape == (1, *CLIP[1:]) and x.abs().max() < 0.5


def test_translation_starts_from_weights_where_it_is_told(trained: object) -> None:
    from dataclasses import replace

    from mpl.training.command import make_task
    from mpl.training.options import load_task

    options = load_task(str(trained / "tiny.toml"), "translation")
    stored = UNet3DConditionModel.from_pretrained(trained / "assets/translation/unet", torch_dtype=torch.float32)
    started = make_task(replace(options, start="translation", model={}), trained / "assets", None).model
    weights = started.state_dict()
    assert stored.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in stored.state_dict().items())
    with pytest.raises(ValueError, match="needs .*modelscope/unet"):
        make_task(replace(options, start="modelscope"), trained / "assets", None)
