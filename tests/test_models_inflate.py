"""From image model to video model: the same picture in every frame, and nothing lost or invented on the way."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from unet_configs import PARENT, PARENT_SUPERRES, SMALL, inputs, parent_model, small_model

from mpl.models import VideoUNet
from mpl.models.inflate import inflate_input, is_temporal

LABELS = torch.tensor([4, 250])


@pytest.mark.parametrize("config", [PARENT, PARENT_SUPERRES], ids=["stage I", "stage II"])
@pytest.mark.parametrize("temporal", [True, False])
def test_inflated_model_equals_its_parent_frame_by_frame(tmp_path, config, temporal):
    parent = parent_model(config)
    parent.save_pretrained(tmp_path / "unet")
    model = VideoUNet.from_pretrained_2d(tmp_path, subfolder="unet", temporal=temporal)
    assert any(map(is_temporal, model.state_dict())) == temporal
    labels = LABELS if config is PARENT_SUPERRES else None
    sample, steps, text = inputs(config["in_channels"])
    with torch.no_grad():
        output = model(sample, steps, text, labels).sample
        for frame in range(sample.shape[2]):
            expected = parent(sample[:, :, frame], steps, text, class_labels=labels).sample
            torch.testing.assert_close(output[:, :, frame], expected, rtol=1e-4, atol=1e-5)


def test_image_model_of_ours_inflates_to_the_same(tmp_path):
    image = small_model(temporal=False, patch_size=2)
    image.save_pretrained(tmp_path)
    video = VideoUNet.from_pretrained_2d(tmp_path)
    assert video.config.temporal
    assert video.config.patch_size == 2
    assert video.config.temporal_norm_num_groups == 8
    with torch.no_grad():
        torch.testing.assert_close(video(*inputs()).sample, image(*inputs()).sample, rtol=1e-4, atol=1e-5)


def test_fresh_model_treats_frames_alone():
    torch.manual_seed(0)
    model = VideoUNet(**SMALL).eval()
    sample, steps, text = inputs()
    with torch.no_grad():
        together = model(sample, steps, text).sample
        alone = model(sample[:, :, 1:2], steps, text).sample
    torch.testing.assert_close(together[:, :, 1:2], alone, rtol=1e-4, atol=1e-5)


def test_temporal_layers_wake_up_in_training():
    torch.manual_seed(0)
    model = VideoUNet(**SMALL)
    model(*inputs()).sample.square().mean().backward()
    last = {key: p.grad for key, p in model.named_parameters() if is_temporal(key)}
    for key in ("mid_block.temp_convs.0.conv4.3.weight", "mid_block.temp_attentions.0.proj_out.weight"):
        assert last[key].abs().max() > 0


def make_temporal_identity(model):
    for module in model.modules():
        if hasattr(module, "make_identity"):
            module.make_identity()


def test_layers_over_frames_can_be_passed_by():
    """Joint training on images and clips: what an image batch asks is what the image model inside answers."""
    model = small_model(transfromer_in_opt=True)
    sample, steps, text = inputs()
    alive = model(sample, steps, text).sample
    passed = model(sample, steps, text, temporal=False).sample
    make_temporal_identity(model)
    torch.testing.assert_close(passed, model(sample, steps, text).sample, rtol=1e-4, atol=1e-5)
    assert (alive - passed).abs().max() > 1e-3


def test_identity_can_be_restored():
    model = small_model()
    sample, steps, text = inputs()
    make_temporal_identity(model)
    together = model(sample, steps, text).sample[:, :, :1]
    torch.testing.assert_close(together, model(sample[:, :, :1], steps, text).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("patch_size", "input_skip"), [(1, False), (2, False), (2, True)])
def test_new_input_channels_change_nothing_at_first(tmp_path, patch_size, input_skip):
    """Interpolation starts from keyframes: 3 noisy channels, 3 masked ones, a mask."""
    keyframes = small_model(patch_size=patch_size, input_skip=input_skip)
    if input_skip:
        torch.nn.init.normal_(keyframes.skip_mix.weight)
    keyframes.save_pretrained(tmp_path)
    model = VideoUNet.from_pretrained_2d(tmp_path, in_channels=7)
    assert model.config.in_channels == 7
    sample, steps, text = inputs(7)
    with torch.no_grad():
        expected = keyframes(sample[:, :3], steps, text).sample
        torch.testing.assert_close(model(sample, steps, text).sample, expected, rtol=1e-4, atol=1e-5)


def test_new_channels_come_last_in_patch_order():
    weight = torch.randn(5, 3 * 4, 3, 3)
    grown = inflate_input({"conv_in.weight": weight}, 4, 2)["conv_in.weight"]
    image = torch.randn(1, 4, 8, 8)
    expected = F.conv2d(F.pixel_unshuffle(image[:, :3], 2), weight)
    torch.testing.assert_close(F.conv2d(F.pixel_unshuffle(image, 2), grown), expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("input_skip", True),
        ("frame_embedding", True),
        ("refine_channels", 8),
        ("layout_grid", (4, 8)),
        ("outline_grid", (4, 4)),
    ],
)
def test_our_own_parts_may_be_added(tmp_path, option, value):
    """A model that was trained without one starts with zeros there: at first it makes no difference."""
    plain = small_model(input_skip=option == "frame_embedding")
    plain.save_pretrained(tmp_path)
    with torch.no_grad():
        model = VideoUNet.from_pretrained_2d(tmp_path, **{option: value})
        torch.testing.assert_close(model(*inputs()).sample, plain(*inputs()).sample)


def test_noise_level_may_be_added(tmp_path):
    """Superres may start from a model that was never told a noise level: at first it makes no difference."""
    small_model().save_pretrained(tmp_path)
    model = VideoUNet.from_pretrained_2d(tmp_path, in_channels=6, class_embed_type="timestep")
    sample, steps, text = inputs(6)
    with torch.no_grad():
        low, high = (model(sample, steps, text, labels).sample for labels in (LABELS, LABELS + 300))
    assert torch.equal(low, high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 2}, "in_channels=2 is not accepted.*have 3"),
        ({"layers_per_block": 2}, "missing .*resnets"),
        ({"mid_block_type": None}, "unexpected mid_block"),
        ({"out_channels": 6}, "of another shape conv_out"),
        ({"norm_num_groups": 3}, "norm_num_groups=3"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    small_model(temporal=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        VideoUNet.from_pretrained_2d(tmp_path, **change)


def test_incomplete_parent_is_refused(tmp_path):
    parent_model(PARENT).save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["mid_block.resnets.0.conv1.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing mid_block.resnets.0.conv1.weight"):
        VideoUNet.from_pretrained_2d(tmp_path)


def test_parent_of_another_family_is_refused(tmp_path):
    """A latent diffusion model has other blocks; the message lists those that would do."""
    config = {**PARENT, "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    parent_model({**config, "cross_attention_norm": None}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DownBlock2D.*accepted: 'ResnetDownsampleBlock3D'"):
        VideoUNet.from_pretrained_2d(tmp_path)
