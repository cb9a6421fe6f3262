"""Other solvers and spacings than the checkpoint's, guidance within an interval, deep levels kept between steps."""

from __future__ import annotations

import pytest
import torch
from stage_toys import LATENT, MEAN, SPREAD, NoNoise, exact_end, exact_model, finish
from unet_configs import SMALL, inputs, small_model

from mpl.cascade import generate
from mpl.config import STAGES, override
from mpl.events import StageFinished, StageKept
from mpl.models.attention import JointAttention
from mpl.noise import KARRAS, SOLVERS, MixedNoise, NoiseSource, alphas_cumprod, scheduler_from_config, with_solver
from mpl.sampling import Guided, denoise, start_schedule, unfold
from mpl.store import StageCache

SHAPE = (1, 3, 2, 8, 8)
PUBLISHED = {"_class_name": "DDPMScheduler", **LATENT, "variance_type": "learned_range", "thresholding": False}


def error(scheduler, steps: int) -> float:
    """Root of the mean squared distance to where the exact model's flow ends."""
    timesteps = start_schedule(scheduler, steps, "steps")
    x = NoiseSource(0).randn(SHAPE)
    out = finish(denoise(exact_model(scheduler), x, scheduler, timesteps, NoNoise()))
    return float((out - exact_end(scheduler, x, int(timesteps[0]))).pow(2).mean().sqrt())


SPACINGS = ("checkpoint", "linspace", "leading", "trailing")
FLOWS = [solver for solver in SOLVERS if solver not in ("ddpm", "sde-dpm++")]  # without noise of their own
EXACT = [(solver, spacing) for solver in FLOWS for spacing in SPACINGS]


@pytest.mark.parametrize(("solver", "spacing"), EXACT + [(s, "karras") for s in FLOWS if s in KARRAS])
def test_every_solver_and_spacing_comes_near_the_true_solution(solver, spacing):
    few, many = (error(with_solver(scheduler_from_config(PUBLISHED), solver, spacing, "keyframes"), n) for n in (8, 64))
    assert many < few / 2 and many < 0.05


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++"])
def test_solvers_that_renew_their_noise_end_where_the_data_are(solver):
    """Not at the end of a flow, but with the data's mean and spread, and not at one place for one beginning."""
    own = scheduler_from_config({**PUBLISHED, "variance_type": "fixed_small"})
    scheduler = with_solver(own, solver, "trailing", "keyframes")
    timesteps = start_schedule(scheduler, 100, "steps")
    begin = NoiseSource(0).randn(SHAPE).repeat(64, 1, 1, 1, 1)
    out = finish(denoise(exact_model(scheduler), begin, scheduler, timesteps, NoiseSource(1)))
    assert out.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert out.std(0).mean().item() == pytest.approx(SPREAD, rel=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_solver_clips_what_the_checkpoint_s_own_does_not(solver):
    """Latents leave [-1, 1]; DDPM's and DDIM's own default would clip them."""
    own = scheduler_from_config({"_class_name": "DPMSolverMultistepScheduler", **without_clipping(LATENT)})
    scheduler = with_solver(own, solver, "checkpoint", "translation")
    timesteps = start_schedule(scheduler, 25, "steps")
    far = exact_model(scheduler, mean=3.0, spread=0.01)
    out = finish(denoise(far, NoiseSource(0).randn(SHAPE), scheduler, timesteps, NoiseSource(1)))
    assert out.mean().item() == pytest.approx(3.0, abs=0.1)


def without_clipping(config):
    return {key: value for key, value in config.items() if key != "clip_sample"}


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "checkpoint"])
def test_what_a_solver_cannot_do_is_refused(solver):
    own = scheduler_from_config({**PUBLISHED, "_class_name": "DDIMScheduler"})
    with pytest.raises(ValueError, match=r"keyframes.spacing is 'karras' and the solver dd.m; .* dpm\+\+, .*deis"):
        with_solver(own, solver, "karras", "keyframes")


def test_renewed_noise_has_as_much_in_common_between_frames_as_the_first():
    noise = MixedNoise(NoiseSource(0), frames=4, share=0.5)
    first, renewed = noise.randn((2, 3, 4, 32, 32)), unfold(noise.randn((8, 3, 32, 32)), 4)
    for draw in (first, renewed):
        frames = draw.movedim(2, 0).flatten(1)
        assert torch.corrcoef(frames)[0, 1:].mean().item() == pytest.approx(0.5, abs=0.05)
        assert draw.std().item() == pytest.approx(1.0, abs=0.02)
        assert abs(torch.corrcoef(draw.flatten(1))[0, 1].item()) < 0.05  # clips have nothing in common
    assert not torch.equal(first, renewed)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_keeps_the_noise_and_what_the_network_predicts(solver):
    own = scheduler_from_config({**PUBLISHED, "prediction_type": "v_prediction", "timestep_spacing": "trailing"})
    other = with_solver(own, solver, "checkpoint", "keyframes")
    assert type(other).__name__ == SOLVERS[solver]
    torch.testing.assert_close(alphas_cumprod(other), alphas_cumprod(own))
    assert (other.config.prediction_type, other.config.timestep_spacing) == ("v_prediction", "trailing")
    assert with_solver(own, "checkpoint", "checkpoint", "keyframes") is own


class Text:
    """Returns the mean of the text it is given, and what is kept of its deep levels; computes those where they lack."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def __call__(self, sample, timestep, text, deep=None):
        if deep is not None and not deep:
            deep["x"] = text.mean((1, 2))
            self.computed.append(len(text))
        mean = text.mean((1, 2)) if deep is None else deep["x"]
        return type("Output", (), {"sample": mean.reshape(-1, 1, 1, 1, 1).expand(len(sample), *SHAPE[1:])})


def guided(model, **options) -> Guided:
    return Guided(model, torch.full((1, 2, 4), 2.0), torch.full((1, 2, 4), 0.5), 3.0, torch.float32, **options)


def test_guidance_keeps_to_its_interval():
    predict = guided(Text(), guidance_from=400, guidance_to=800)
    for timestep, value in ((801, 2.0), (800, 5.0), (400, 5.0), (399, 2.0)):
        assert predict(torch.zeros(SHAPE), torch.tensor(timestep)).unique().tolist() == [value]


@pytest.mark.parametrize("split", [False, True])
def test_deep_levels_are_computed_in_every_nth_call_and_when_guidance_ends(split):
    model = Text()
    predict = guided(model, deep_every=3, guidance_from=400, split=split)
    outs = [predict(torch.zeros(SHAPE), torch.tensor(t)).mean().item() for t in (900, 800, 700, 600, 500, 300, 200)]
    assert outs == [5.0] * 5 + [2.0] * 2
    guided_ones = [1, 1] if split else [2]
    assert model.computed == guided_ones * 2 + [1] * 2


@pytest.mark.parametrize("guidance", [{"guidance_to": 800}, {"guidance_from": 700}])
def test_two_calls_keep_deep_levels_as_one_does(guidance):
    """Both anew where guidance begins: of levels that differ in age it would magnify the difference."""
    outs = []
    for split in (False, True):
        predict = guided(Ageing(), deep_every=4, split=split, **guidance)
        outs.append([predict(torch.zeros(SHAPE), torch.tensor(t)).mean().item() for t in (900, 800, 700, 600)])
    assert outs[0] == outs[1]


class Ageing(Text):
    """Its deep levels tell the timestep, too."""

    def __call__(self, sample, timestep, text, deep=None):
        if deep is not None and not deep:
            deep["x"] = text.mean((1, 2)) * (1 + timestep)
        return super().__call__(sample, timestep, text, deep)


@pytest.mark.parametrize("levels", [1, 2])
def test_kept_deep_levels_stand_for_computed_ones(levels):
    one = {"block_out_channels": [16], "down_block_types": SMALL["down_block_types"][1:]}
    one |= {"up_block_types": SMALL["up_block_types"][:1]}
    model = small_model(**(one if levels == 1 else {})).eval()
    sample, timestep, text = inputs()
    with torch.no_grad():
        whole = model(sample, timestep, text).sample
        deep: dict[str, torch.Tensor] = {}
        torch.testing.assert_close(model(sample, timestep, text, deep=deep).sample, whole)
        torch.testing.assert_close(model(sample, timestep, text, deep=deep).sample, whole)
        other = model(sample + 1, timestep, text, deep=deep).sample
        assert not torch.allclose(other, whole)  # the shallow levels see the sample
        for block in [*model.down_blocks[1:], model.mid_block, *model.up_blocks[:-1]]:
            for weight in block.parameters():
                weight.mul_(5)
        torch.testing.assert_close(model(sample + 1, timestep, text, deep=deep).sample, other)
        assert not torch.allclose(model(sample, timestep, text).sample, whole)


def test_the_text_is_projected_once_for_a_prompt():
    model, calls = small_model(), []
    sample, timestep, text = inputs(batch=1)
    layers = [module for module in model.modules() if isinstance(module, JointAttention)]
    for layer in layers:
        layer.add_k_proj.register_forward_hook(lambda *_: calls.append(1))
    predict = Guided(model, text, -text, 2.0, torch.float32, remembers=True)
    plain = Guided(model, text, -text, 2.0, torch.float32)
    for t in (900, 500, 100):
        out = predict(sample, torch.tensor(t))
        count = len(calls)
        torch.testing.assert_close(out, plain(sample, torch.tensor(t)))
        del calls[count:]
    assert len(calls) == len(layers) > 0


@pytest.fixture(scope="module")
def kept_stages(tmp_path_factory):
    return StageCache(tmp_path_factory.mktemp("stages"))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_stage_runs_with_every_solver(tiny, tiny_weights, kept_stages, stage, solver):
    changes = {f"{stage}.solver": solver, f"{stage}.spacing": "trailing"}
    if stage == "translation":
        changes |= {"translation.grid": "published", "translation.steps": 4, "translation.strength": 0.9}
    else:
        changes[f"{stage}.deep_every"] = 2
    ask = {"stop_after": stage, "store": kept_stages}  # stages before it are made once
    ends = [list(generate("a red car", override(tiny, c), tiny_weights, 0, **ask)) for c in ({}, changes)]
    assert any(isinstance(e, StageFinished) and e.stage == stage for e in ends[1])
    done = StageFinished | StageKept
    plain, other = (next(e for e in end if isinstance(e, done) and e.stage == stage).frames for end in ends)
    assert plain.shape == other.shape and (plain != other).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"superres.solver": "ddim", "superres.spacing": "karras"}, "superres.spacing is 'karras' and the solver ddim"),
        ({"translation.spacing": "karras"}, "translation.grid is 'from_start', .* and translation.spacing 'karras'"),
        ({"translation.spacing": "leading"}, "translation.grid is 'from_start', .* and translation.spacing 'leading'"),
        ({"translation.solver": "unipc"}, "translation.grid is 'from_start' and the scheduler UniPC"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(tiny, tiny_weights, changes, words):
    with pytest.raises(ValueError, match=words):
        generate("a red car", override(tiny, changes), tiny_weights, 0)


def test_an_interval_that_ends_before_it_begins_is_refused(tiny):
    with pytest.raises(
        ValueError, match=r"keyframes.guidance_from = 500: must not be above keyframes.guidance_to \(400"
    ):
        override(tiny, {"keyframes.guidance_from": 500, "keyframes.guidance_to": 400})
