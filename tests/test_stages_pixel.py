"""Keyframes, interpolation and superres over toy networks: what goes in, what comes out, what must not matter."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from stage_toys import ANCESTRAL, COSINE, V_SOLVER, ToyUNet, finish, toy_text, toy_weights, watch
from tiny import video_unet
from torch.nn import functional as F

from mpl.noise import NoiseSource, add_noise, scheduler_from_config, stage_generator
from mpl.options import InterpolationOptions, KeyframesOptions, SuperresOptions
from mpl.stages.common import back_project
from mpl.stages.interpolation import gap_condition, interpolation
from mpl.stages.keyframes import keyframes
from mpl.stages.superres import superres, superres_noise_level
from mpl.stages.text import TextStates

KEYFRAMES = KeyframesOptions(frames=3, height=8, width=12, steps=3, guidance=2.0)
INTERPOLATION = InterpolationOptions(between=3, steps=3, guidance=2.0)
SUPERRES = SuperresOptions(height=16, width=24, steps=2, guidance=1.0, window=4, stride=3)


def clip(frames: int, batch: int = 1, height: int = 8, width: int = 12) -> torch.Tensor:
    return NoiseSource(5).randn((batch, 3, frames, height, width)).clamp(-1, 1)


def fill(given=None, options=INTERPOLATION, weights=None, seed=0, text=None):
    weights, given = weights or toy_weights(), clip(4) if given is None else given
    return finish(interpolation(given, text or toy_text(), options, weights, stage_generator(seed, "interpolation")))


def upscale(given=None, options=SUPERRES, weights=None, seed=0, **kwargs):
    weights, given = weights or toy_weights(), clip(7) if given is None else given
    source = stage_generator(seed, "superres")
    return finish(superres(given, toy_text(), options, weights, source, **kwargs))


# ---- keyframes


def test_keyframes_come_from_seed_and_text_alone():
    def make(seed=0, text=None):
        source = stage_generator(seed, "keyframes")
        return finish(keyframes(text or toy_text(), KEYFRAMES, toy_weights(), source))

    first = make()
    assert first.shape == (1, 3, 3, 8, 12) and first.dtype == torch.float32 and first.is_contiguous()
    assert torch.equal(first, make()) and not torch.equal(first, make(seed=1))
    assert make(text=toy_text(2)).shape[0] == 2


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_frames_begin_with_the_share_of_noise_in_common(share):
    weights = toy_weights()
    options = KeyframesOptions(frames=3, height=40, width=40, steps=1, guidance=1.0, mixed_noise=share)
    finish(keyframes(toy_text(), options, weights, stage_generator(0, "keyframes")))
    noise = weights.models["keyframes"].calls[0].sample
    first, second = noise[0, :, 0].flatten(), noise[0, :, 1].flatten()
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(share, abs=0.05)
    if share == 0:  # as before there was such an option
        assert torch.equal(noise, stage_generator(0, "keyframes").randn(noise.shape))


def test_splitting_guidance_changes_only_the_number_of_calls():
    outs, calls = [], []
    for split in (False, True):
        weights = toy_weights()
        options = KeyframesOptions(frames=3, height=8, width=12, steps=3, guidance=2.0, split_guidance=split)
        outs.append(finish(keyframes(toy_text(), options, weights, stage_generator(0, "keyframes"))))
        calls.append([len(call.sample) for call in weights.models["keyframes"].calls])
    torch.testing.assert_close(*outs, atol=1e-5, rtol=0)
    assert calls == [[2, 2, 2], [1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize("stage", ["keyframes", "interpolation", "superres"])
def test_a_stage_closed_between_two_steps_gives_its_model_back(stage):
    weights, source, text = toy_weights(), stage_generator(0, stage), toy_text()
    steps = {
        "keyframes": lambda: keyframes(text, KEYFRAMES, weights, source),
        "interpolation": lambda: interpolation(clip(4), text, INTERPOLATION, weights, source),
        "superres": lambda: superres(clip(7), text, SUPERRES, weights, source),
    }[stage]()
    next(steps)
    assert weights.borrowed == [stage] and torch.is_grad_enabled()
    steps.close()
    assert weights.borrowed == [] and len(weights.models[stage].calls) == 1


@pytest.mark.parametrize("stage", ["keyframes", "interpolation", "superres"])
def test_everything_large_is_on_the_models_device(stage):
    weights, source, text = toy_weights(device=torch.device("meta")), stage_generator(0, stage), toy_text()
    weights.models[stage].to("meta")
    steps = {
        "keyframes": lambda: keyframes(text, KEYFRAMES, weights, source),
        "interpolation": lambda: interpolation(clip(4), text, INTERPOLATION, weights, source),
        "superres": lambda: superres(clip(7), text, SUPERRES, weights, source),
    }[stage]()
    assert next(steps).sample.device.type == "meta" and next(steps).sample.device.type == "meta"


def test_a_network_in_half_precision_gets_its_own_numbers():
    whole = finish(keyframes(toy_text(), KEYFRAMES, toy_weights(), stage_generator(0, "keyframes")))
    weights = toy_weights(number=torch.bfloat16)
    weights.models["keyframes"].to(torch.bfloat16)
    seen, half = watch(keyframes(toy_text(), KEYFRAMES, weights, stage_generator(0, "keyframes")))
    assert {call.sample.dtype for call in weights.models["keyframes"].calls} == {torch.bfloat16}
    assert half.dtype == torch.float32 and {step.sample.dtype for step in seen} == {torch.float32}
    torch.testing.assert_close(half, whole, atol=0.2, rtol=0)


# ---- interpolation


def test_a_model_that_can_be_told_is_told_which_frames_are_given():
    weights, told = toy_weights(), []

    class Told(ToyUNet):
        config = SimpleNamespace(given_frames=True)

        def forward(self, sample, timestep, text, class_labels=None, given=None):
            told.append(given.tolist())
            return super().forward(sample, timestep, text, class_labels)

    weights.models["superres"] = Told(6, 3)
    upscale(clip(7), weights=weights)
    assert told == 2 * [[False] * 4] + 2 * [[True, False, False, False]]  # two steps of each window


def test_windows_that_are_not_chained_know_nothing_of_each_other():
    """Another frame of the first window changes the second only where that is conditioned on what came before."""
    given = clip(7)
    other = given.clone()
    other[:, :, 2] = 1 - other[:, :, 2]
    for chained in (True, False):
        options = dataclasses.replace(SUPERRES, chained=chained)
        second = [upscale(x, options)[:, :, 4] for x in (given, other)]
        assert torch.equal(*second) != chained


def test_given_frames_come_out_unchanged_unless_the_preset_says_otherwise():
    given = clip(4)
    kept = fill(given)
    assert kept.shape == (1, 3, 13, 8, 12)
    assert torch.equal(kept[:, :, ::4], given)
    published = fill(given, InterpolationOptions(between=3, steps=3, guidance=2.0, keep_keyframes=False))
    assert not torch.isclose(published[:, :, ::4], given).all(dim=(0, 1, 3, 4)).any()
    between = [i for i in range(13) if i % 4]
    assert torch.equal(kept[:, :, between], published[:, :, between])


def test_a_frame_that_two_gaps_share_is_the_later_ones():
    options = InterpolationOptions(between=1, steps=2, keep_keyframes=False)
    given = clip(3)
    both = fill(given, options)
    torch.testing.assert_close(fill(given[:, :, :2], options)[:, :, :2], both[:, :, :2])
    assert not torch.allclose(fill(given[:, :, :2], options)[:, :, 2], both[:, :, 2])


@pytest.mark.parametrize("scheduler", [V_SOLVER, ANCESTRAL])
@pytest.mark.parametrize("level", [0, 300])
def test_how_many_gaps_run_as_one_batch_does_not_matter(scheduler, level):
    outs = []
    for at_once in (1, 2, 7):
        weights = toy_weights(scheduler, models={"interpolation": ToyUNet(7, 6)})  # with a variance
        options = InterpolationOptions(between=3, steps=4, guidance=2.0, noise_level=level, gaps_per_batch=at_once)
        outs.append(fill(clip(4, batch=2), options, weights, text=toy_text(2)))
        assert max(len(call.sample) for call in weights.models["interpolation"].calls) == 4 * min(at_once, 3)
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], atol=1e-4, rtol=0)


def test_how_many_gaps_run_as_one_batch_does_not_matter_to_a_real_network_either():
    model = video_unet(7).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():  # a fresh one would not look from frame to frame
        if not p.any():
            p.copy_(0.05 * torch.randn(p.shape, generator=generator))
    text = TextStates(*(torch.randn(1, 5, model.config.encoder_hid_dim, generator=generator) for _ in range(4)))
    outs = []
    for at_once in (1, 7):
        options = InterpolationOptions(between=3, steps=4, guidance=2.0, gaps_per_batch=at_once)
        outs.append(fill(clip(8), options, toy_weights(models={"interpolation": model}), text=text))
    torch.testing.assert_close(outs[1], outs[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("stage", "times"),
    [("superres", 1), ("interpolation", 2)],  # windows as wide as each other; of 7 gaps in threes the last one is alone
)
def test_parts_of_a_stage_read_their_text_once(stage, times):
    model = video_unet({"superres": 6, "interpolation": 7}[stage], "timestep" if stage == "superres" else None).eval()
    generator, read = torch.Generator().manual_seed(0), []
    text = TextStates(*(torch.randn(1, 5, model.config.encoder_hid_dim, generator=generator) for _ in range(4)))
    for layer in (model.add_embedding, model.encoder_hid_proj, model.mid_block.attentions[0].add_k_proj):
        layer.register_forward_hook(lambda layer, args, out: read.append(layer))
    weights = toy_weights(models={stage: model})
    if stage == "superres":
        options = dataclasses.replace(SUPERRES, guidance=2.0)
        finish(superres(clip(7), text, options, weights, stage_generator(0, stage)))
    else:
        options = InterpolationOptions(between=3, steps=2, guidance=2.0, gaps_per_batch=3)
        fill(clip(8), options, weights, text=text)
    assert len(read) == 3 * times


def test_gaps_draw_their_own_noise_unless_it_is_shared():
    flat = clip(2)[:, :, :1].expand(-1, -1, 3, -1, -1)  # equal keyframes: only noise tells the gaps apart
    own = fill(flat, InterpolationOptions(between=3, steps=2))
    assert not torch.allclose(own[:, :, 1:4], own[:, :, 5:8])
    shared = fill(flat, InterpolationOptions(between=3, steps=2, shared_noise=True))
    torch.testing.assert_close(shared[:, :, 1:4], shared[:, :, 5:8])


def test_the_condition_holds_pixels_and_mask():
    first, last = torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 1.0)
    zeros, linear = (gap_condition(first, last, 3, fill)[0, :, :, 0, 0] for fill in ("zeros", "linear"))
    assert zeros[3].tolist() == linear[3].tolist() == [1, 0, 0, 0, 1]
    assert zeros[0].tolist() == [-1, 0, 0, 0, 1]
    assert linear[0].tolist() == [-1, -0.5, 0, 0.5, 1]
    with pytest.raises(ValueError, match="interpolation.fill"):
        gap_condition(first, last, 3, "cubic")


def test_noise_augmentation_is_on_the_models_own_schedule_and_not_told():
    weights = toy_weights()
    fill(clip(2), InterpolationOptions(between=1, steps=1, noise_level=400), weights)
    call = weights.models["interpolation"].calls[0]
    source = stage_generator(0, "interpolation").spawn(0)
    source.randn((1, 3, 3, 8, 12))  # x_T comes first
    noise = source.randn((1, 3, 2, 8, 12))
    noised = add_noise(clip(2), noise, weights.scheduler("interpolation"), 400)
    assert torch.equal(call.sample[:, 3:6, [0, 2]], noised) and (call.sample[:, 3:6, 1] == 0).all()
    assert call.labels is None


def test_one_keyframe_has_nothing_to_fill():
    given, weights = clip(1), toy_weights()
    assert fill(given, weights=weights) is given
    assert weights.models["interpolation"].calls == []


def test_interpolation_counts_and_previews_the_whole_clip():
    given = clip(4)
    options = InterpolationOptions(between=3, steps=3, guidance=2.0, gaps_per_batch=2)
    seen, out = watch(interpolation(given, toy_text(), options, toy_weights(), stage_generator(0, "x")))
    assert [step.index for step in seen] == [1, 2, 3, 4, 5, 6] and {step.total for step in seen} == {6}
    assert [step.evaluations for step in seen] == [4, 8, 12, 14, 16, 18]
    for step in seen:
        preview = step.estimate()
        assert preview.shape == out.shape and torch.equal(preview[:, :, ::4], given)


# ---- superres


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 10, 13])
def test_every_frame_is_upscaled_whatever_their_number(frames):
    out = upscale(clip(frames))
    assert out.shape == (1, 3, frames, 16, 24)
    assert out.isfinite().all() and (out.flatten(3).std(3) > 0).all()
    assert torch.equal(out, upscale(clip(frames)))


def test_the_condition_is_the_noised_clip_with_the_frame_before_clean():
    weights, given = toy_weights(), clip(7)
    steps = superres(given, toy_text(), SUPERRES, weights, stage_generator(0, "superres"))
    seen, _ = watch(steps)
    calls = weights.models["superres"].calls
    level = superres_noise_level(scheduler_from_config(COSINE), 5.5)
    assert level == 250
    for index, (start, call) in enumerate(((0, calls[0]), (3, calls[2]))):
        source = stage_generator(0, "superres").spawn(index)
        x, noise = (source.randn((1, 3, 4, 16, 24)) for _ in "ab")
        frames = given[0, :, start : start + 4].transpose(0, 1)
        up = F.interpolate(frames, (16, 24), mode="bilinear", align_corners=True).transpose(0, 1)[None]
        condition = add_noise(up, noise, scheduler_from_config(COSINE), level)
        if index:
            condition[:, :, :1] = seen[1].sample[:, :, 3:]  # the last frame of the first window
        assert torch.equal(call.sample[:, :3], x)
        torch.testing.assert_close(call.sample[:, 3:], condition)
        assert call.labels.tolist() == [250]


def test_later_windows_own_the_shared_frame():
    weights, given = toy_weights(), clip(7)
    seen, out = watch(superres(given, toy_text(), SUPERRES, weights, stage_generator(0, "superres")))
    torch.testing.assert_close(out[:, :, :3], seen[1].sample[:, :, :3])
    torch.testing.assert_close(out[:, :, 3:], seen[3].sample)


def test_back_projection_gives_the_coarse_shapes_of_what_was_given_and_leaves_the_fine_ones():
    """By hand: the mean of four given pixels, 0.2, takes the place of 0.5; what is zero in that mean stays."""
    checks = 0.1 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    made = (0.5 + checks.repeat(8, 12)).expand(1, 3, 4, 16, 24)
    small = (0.2 + checks.repeat(4, 6)).expand(1, 3, 4, 8, 12)
    torch.testing.assert_close(back_project(made, small, 2), made - 0.3)
    held = F.avg_pool3d(back_project(made, small, 1), (1, 2, 2))  # the given checks are coarse now, and come through
    assert torch.equal((held - 0.2).sign(), (small - 0.2).sign())
    torch.testing.assert_close(back_project(made, small, 2, 0.5), made - 0.15)
    assert back_project(made, small, 0) is made


def test_windows_are_held_to_what_was_given_before_the_next_one_sees_them():
    given, weights, options = clip(7), toy_weights(), dataclasses.replace(SUPERRES, back_projection=1)

    def apart(large):
        return (F.avg_pool3d(large, (1, 2, 2)) - given).abs().mean()

    assert apart(upscale(given, options, weights)) < 0.5 * apart(upscale(given))
    told = weights.models["superres"].calls[2].sample[:, 3:, 0]  # the second window's first frame, in its condition
    assert torch.equal(told, upscale(given[:, :, :4], options)[:, :, 3])


def test_infinite_snr_adds_no_noise():
    weights, given = toy_weights(), clip(4)
    upscale(given, SuperresOptions(height=8, width=12, steps=1, snr=math.inf), weights)
    call = weights.models["superres"].calls[0]
    torch.testing.assert_close(call.sample[:, 3:], given)
    assert call.labels.tolist() == [0]


def test_windows_draw_their_own_noise_unless_it_is_shared():
    for shared in (False, True):
        weights = toy_weights()
        options = SuperresOptions(height=16, width=24, steps=1, window=4, stride=3, shared_noise=shared)
        upscale(clip(7), options, weights)
        first, second = (call.sample[:, :3] for call in weights.models["superres"].calls)
        assert torch.equal(first, second) == shared


def test_a_given_first_frame_conditions_the_first_window_only():
    weights, first = toy_weights(), torch.full((1, 3, 1, 16, 24), 0.25)
    out = upscale(weights=weights, first_frame=first)
    calls = weights.models["superres"].calls
    assert torch.equal(calls[0].sample[:, 3:, :1], first)
    assert not torch.equal(calls[2].sample[:, 3:, :1], first)
    assert not torch.equal(out[:, :, :1], first)  # it is a condition, not a result


def test_a_first_frame_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="first_frame"):
        upscale(first_frame=torch.zeros(1, 3, 1, 8, 12))


def test_the_image_model_makes_the_first_frame_where_there_is_one():
    options = SuperresOptions(
        height=16, width=24, steps=2, window=4, stride=3, first_frame_steps=3, first_frame_guidance=2.0
    )
    weights = toy_weights(first_frame=True)
    seen, out = watch(superres(clip(7), toy_text(), options, weights, stage_generator(0, "superres")))
    image_calls = weights.models["superres_first_frame"].calls
    assert [call.sample.shape for call in image_calls] == [(2, 6, 16, 24)] * 3
    assert {call.labels.tolist()[0] for call in image_calls} == {150}
    assert [step.index for step in seen] == list(range(1, 8)) and {step.total for step in seen} == {7}
    assert seen[-1].evaluations == 3 * 2 + 4
    assert torch.equal(weights.models["superres"].calls[0].sample[:, 3:, :1], seen[2].sample)
    assert all(step.estimate().shape == out.shape for step in seen)
    assert weights.borrowed == []


def test_previews_show_what_is_done_and_the_rest_merely_upscaled():
    given = clip(7)
    seen, out = watch(superres(given, toy_text(), SUPERRES, toy_weights(), stage_generator(0, "superres")))
    first, last = seen[0].estimate(), seen[-1].estimate()
    up = F.interpolate(given[0].transpose(0, 1), (16, 24), mode="bilinear", align_corners=True)
    torch.testing.assert_close(first[0, :, 4:], up.transpose(0, 1)[:, 4:])
    torch.testing.assert_close(last[:, :, :3], out[:, :, :3])


def test_an_impossible_snr_is_refused():
    with pytest.raises(ValueError, match="snr"):
        superres_noise_level(scheduler_from_config(COSINE), 0.0)
