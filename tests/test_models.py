"""The video UNet: published structure and layout, what it accepts, how it treats frames, batches and patches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from unet_configs import SMALL, inputs, small_model

from mpl.models import VideoUNet

MODELS = Path(__file__).parent / "data" / "reference" / "models"
LABELS = torch.tensor([4, 250])


def published(name: str) -> tuple[dict, dict[str, list[int]]]:
    """Config and parameter shapes of a miniature of a published model."""
    manifest = json.loads((MODELS / name / "manifest.json").read_text())
    return json.loads((MODELS / name / "config.json").read_text()), manifest["params"]


@pytest.mark.parametrize("name", ["base_pixel", "interp_pixel", "sr1_pixel"])
def test_state_dict_keys_are_the_published_ones(name):
    config, params = published(name)
    with torch.device("meta"):
        model = VideoUNet(**config)
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == params


def test_full_size_model_has_the_published_number_of_parameters():
    """show-1-base: 6.91 GB of float32 weights; 0.935 billion of them in the image part."""
    config, _ = published("base_pixel")
    full = {"block_out_channels": [320, 640, 960, 1280], "layers_per_block": 3, "attention_head_dim": 64}
    full |= {"cross_attention_dim": 1280, "encoder_hid_dim": 4096, "addition_embed_type_num_heads": 64}
    with torch.device("meta"):
        video, image = VideoUNet(**{**config, **full}), VideoUNet(**{**config, **full}, temporal=False)
    assert sum(p.numel() for p in video.parameters()) == pytest.approx(1.727e9, rel=1e-3)
    assert sum(p.numel() for p in image.parameters()) == pytest.approx(0.935e9, rel=1e-3)
    assert set(image.state_dict()) == {key for key in video.state_dict() if "temp_" not in key}


def save_published(folder: Path, model: VideoUNet) -> None:
    """Save as the published checkpoints are: another class name, none of our own config keys, diffusers' others."""
    model.save_pretrained(folder / "unet")
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    own = ("patch_size", "input_skip", "frame_embedding", "temporal_attention_heads", "transfromer_in_opt")
    own += (
        "cross_attention_norm_num_groups",
        "prior_std",
        "prior_schedule",
        "prior_pool",
        "refine_channels",
        "coordinates",
        "layout_grid",
        "outline_grid",
    )
    config = {key: value for key, value in config.items() if key not in own}
    config |= {"_class_name": "UNet3DConditionModel", "_diffusers_version": "0.19.3", "dropout": 0.0}
    config |= {"dual_cross_attention": False, "upcast_attention": False, "use_linear_projection": False}
    config |= {"num_class_embeds": None, "conv_in_kernel": 3, "center_input_sample": False}
    path.write_text(json.dumps(config))


def test_published_layout_loads(tmp_path):
    model = small_model(block_out_channels=[32, 64], cross_attention_norm_num_groups=32, cross_attention_dim=32)
    save_published(tmp_path, model)
    loaded = VideoUNet.from_pretrained(tmp_path, subfolder="unet")
    assert not loaded.training
    torch.testing.assert_close(loaded(*inputs()).sample, model(*inputs()).sample, rtol=0, atol=0)


def test_published_key_with_another_meaning_is_refused(tmp_path):
    save_published(tmp_path, small_model())
    path = tmp_path / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"conv_in_kernel": 5}))
    with pytest.raises(ValueError, match="conv_in_kernel=5.*accepted: 3"):
        VideoUNet.from_pretrained(tmp_path, subfolder="unet")


@pytest.mark.parametrize("change", ["lacks", "has more"])
def test_loading_is_strict(tmp_path, change):
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    if change == "lacks":
        del weights["mid_block.temp_convs.0.conv1.0.bias"]
    else:
        weights["mid_block.extra.weight"] = torch.zeros(1)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="do not fit their config: 1 .*mid_block"):
        VideoUNet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"down_block_types": ["CrossAttnDownBlock3D"] * 2}, "CrossAttnDownBlock3D.*accepted: 'ResnetDownsample"),
        ({"up_block_types": ["UpBlock3D"] * 2}, "UpBlock3D.*accepted: 'SimpleCrossAttnUp"),
        ({"mid_block_type": "UNetMidBlock3DCrossAttn"}, "accepted: 'UNetMidBlock3DSimpleCrossAttn', None"),
        ({"up_block_types": ["ResnetUpsampleBlock3D"]}, "up_block_types.*1 entries; block_out_channels has 2"),
        ({"layers_per_block": [1, 1, 1]}, "layers_per_block=.*3 entries; one value or 2"),
        ({"layers_per_block": 0}, "layers_per_block=0"),
        ({"norm_num_groups": 7}, "norm_num_groups=7 does not divide"),
        ({"temporal_norm_num_groups": 32}, "temporal_norm_num_groups=32 does not divide"),
        ({"cross_attention_norm_num_groups": 32}, "cross_attention_norm_num_groups=32 does not divide"),
        ({"attention_head_dim": 12}, "attention_head_dim=12 does not divide the width 32"),
        ({"temporal_attention_heads": 5}, "temporal_attention_heads=5 does not divide the width 32"),
        ({"addition_embed_type_num_heads": 3}, "addition_embed_type_num_heads=3"),
        ({"class_embed_type": "simple"}, "class_embed_type='simple'"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"in_channels": "3"}, "in_channels='3'"),
    ],
)
def test_bad_config_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        VideoUNet(**{**SMALL, **change})


def test_bad_inputs_are_named():
    model = small_model(patch_size=2)
    sample, steps, text = inputs()
    with pytest.raises(ValueError, match="sample has shape .*c = 3"):
        model(sample[:, :2], steps, text)
    with pytest.raises(ValueError, match="sample is 16x6 pixels .*multiples of 4"):
        model(sample[..., :6, :], steps, text)
    with pytest.raises(ValueError, match=r"encoder_hidden_states has shape .*\(2, tokens, 16\)"):
        model(sample, steps, text[:1])
    with pytest.raises(ValueError, match="timestep has 3 values; 1 or 2"):
        model(sample, torch.arange(3), text)
    with pytest.raises(ValueError, match="does not take a noise level"):
        model(sample, steps, text, LABELS)
    with pytest.raises(ValueError, match="needs a noise level"):
        small_model(class_embed_type="timestep")(sample, steps, text)


def test_group_counts_follow_the_config():
    """The published models have 32 groups in temporal convolutions and text norms, the embedded ones 8 everywhere."""
    own = VideoUNet(**SMALL)
    assert {m.num_groups for m in own.modules() if isinstance(m, torch.nn.GroupNorm)} == {8}
    wide = {"block_out_channels": [32, 64], "cross_attention_dim": 32, "norm_num_groups": 16}
    defaults = {key: value for key, value in SMALL.items() if not key.endswith("norm_num_groups")}
    plain = VideoUNet(**defaults | wide)
    assert plain.mid_block.temp_convs[0].conv1[0].num_groups == 32
    assert plain.mid_block.attentions[0].norm_cross.num_groups == 32
    assert plain.mid_block.temp_attentions[0].norm.num_groups == 16


def test_head_size_list_is_read_from_the_front_on_the_way_up():
    levels = {
        "down_block_types": ["SimpleCrossAttnDownBlock3D"] * 2,
        "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 2,
    }
    model = VideoUNet(**SMALL | levels | {"attention_head_dim": [4, 16]})
    heads = [block.attentions[0].heads for block in (*model.down_blocks, *model.up_blocks)]
    assert heads == [16 // 4, 32 // 16, 32 // 4, 16 // 16]
    frames = [block.temp_attentions[0].transformer_blocks[0].attn1.heads for block in model.down_blocks]
    assert frames == [4, 16]  # count and size are swapped


def test_timestep_may_be_a_number_or_a_tensor():
    model = small_model()
    sample, _, text = inputs()
    number = model(sample, 9, text).sample
    for steps in (torch.tensor(9), torch.tensor([9]), torch.tensor([9, 9])):
        torch.testing.assert_close(model(sample, steps, text).sample, number, rtol=0, atol=0)
    assert torch.equal(model(sample, 9, text, return_dict=False)[0], number)


def test_clips_of_a_batch_do_not_see_each_other_and_frames_do():
    model = small_model(class_embed_type="timestep")
    sample, steps, text = inputs()
    both = model(sample, steps, text, LABELS).sample
    alone = model(sample[1:], steps[1:], text[1:], LABELS[1:]).sample
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    changed = sample.clone()
    changed[1, :, 2] += 1
    moved = (model(changed, steps, text, LABELS).sample - both).abs().amax((1, 3, 4))  # (b, f)
    assert moved[0].max() < 1e-5
    assert moved[1].min() > 1e-3


def test_text_timestep_and_noise_level_matter():
    model = small_model(class_embed_type="timestep")
    sample, steps, text = inputs()
    base = model(sample, steps, text, LABELS).sample
    for other in ((steps + 100, text, LABELS), (steps, text.flip(1) * 2, LABELS), (steps, text, LABELS + 100)):
        assert (model(sample, *other).sample - base).abs().max() > 1e-3


def test_patches_are_the_same_model_on_gathered_pixels(tmp_path):
    """Channel-major order: all pixels of a patch's first channel come first."""
    patched = small_model(patch_size=2)
    plain = VideoUNet(**SMALL | {"in_channels": 12, "out_channels": 12}).eval()
    plain.load_state_dict(patched.state_dict())
    sample, steps, text = inputs(size=8)
    gathered = F.pixel_unshuffle(sample.transpose(1, 2), 2).transpose(1, 2)
    expected = F.pixel_shuffle(plain(gathered, steps, text).sample.transpose(1, 2), 2).transpose(1, 2)
    torch.testing.assert_close(patched(sample, steps, text).sample, expected)
    patched.save_pretrained(tmp_path)
    loaded = VideoUNet.from_pretrained(tmp_path)
    assert loaded.config.patch_size == 2
    torch.testing.assert_close(loaded(sample, steps, text).sample, patched(sample, steps, text).sample)


def test_input_skip_mixes_channels_by_timestep():
    """With a matrix that is known, the output is the blocks' plus that mix of the input; it may differ per clip."""
    model = small_model(in_channels=4, patch_size=2, input_skip=True)
    sample, _, text = inputs(4)
    steps = torch.tensor([10.0, 900.0])[: len(sample)]
    with torch.no_grad():
        for parameter in model.skip_mix.parameters():
            parameter.zero_()
        blocks = model(sample, steps, text).sample
        model.skip_mix.bias.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 2]]).flatten())
        expected = sample[:, :3].clone()
        expected[:, 2] += 2 * sample[:, 3]
        torch.testing.assert_close(model(sample, steps, text).sample - blocks, expected)
        torch.nn.init.normal_(model.skip_mix.weight)
        early, late = (model(sample, t, text).sample for t in (10, 900))
    assert not torch.allclose(early, late)


def test_the_refiner_mends_each_frame_alone_and_sees_single_pixels():
    """What it adds at a pixel depends on pixels nearby in that frame, finer than the patches that the blocks see."""
    model = small_model(patch_size=2, refine_channels=8)
    sample, steps, text = inputs()
    pictures = torch.zeros(2, 3, 3, 16, 32)
    conditions = model.conditions(steps, text, None, 3)
    sample = F.interpolate(sample.flatten(0, 1), (16, 32)).unflatten(0, (2, 3))
    changed = sample.clone()
    changed[1, :, 2, 8, 8] += 1.0
    with torch.no_grad():
        before, after = (model.refiner(pictures, x, conditions) for x in (sample, changed))
    moved = (after - before).abs().amax(1) > 1e-6
    assert not moved[0].any() and not moved[1, :2].any()
    assert moved[1, 2, 8, 8] and (after - before)[1, :, 2, 8, 8].sub((after - before)[1, :, 2, 8, 9]).abs().min() > 0


def test_refiner_s_width_is_checked():
    with pytest.raises(ValueError, match="refine_channels=12 is not accepted; it must be a multiple of norm_num_g"):
        small_model(refine_channels=12)


def test_frames_are_told_their_places():
    """Where layers over frames are passed by, a frame depends on its own place alone; by default they are even."""
    model = small_model(frame_embedding=True, input_skip=True)
    sample, steps, text = inputs()
    with torch.no_grad():
        whole = model(sample, steps, text).sample
        even = model(sample, steps, text, places=torch.tensor([0.0, 0.5, 1.0])).sample
        torch.testing.assert_close(even, whole)
        alone = model(sample, steps, text, temporal=False).sample
        last = model(sample[:, :, 2:], steps, text, temporal=False, places=torch.tensor([1.0])).sample
        torch.testing.assert_close(last, alone[:, :, 2:], rtol=1e-4, atol=1e-5)
        early = model(sample[:, :, 2:], steps, text, temporal=False, places=torch.tensor([0.0])).sample
        assert not torch.allclose(early, last)
        one_place_each = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
        turned = model(sample, steps, text, places=one_place_each).sample
    torch.testing.assert_close(turned[0], whole[0])
    assert not torch.allclose(turned[1], whole[1])


def test_a_layout_tells_every_frame_where_its_subject_is():
    """The draft goes by text and place, not by the noisy picture; a cell of it is seen near that cell."""
    model = small_model(layout_grid=(8, 16))
    sample, steps, text = inputs()
    with torch.no_grad():
        out, other = model(sample, steps, text), model(sample + 1, steps, text, places=torch.tensor([0.0, 0.5, 0.0]))
    assert out.draft.shape == (2, 1, 3, 8, 16)
    torch.testing.assert_close(other.draft[:, :, :2], out.draft[:, :, :2])
    assert not torch.allclose(other.draft[:, :, 2], out.draft[:, :, 2])
    plain, drafted = torch.zeros(6, 16, 8, 16), torch.zeros(2, 1, 3, 8, 16)
    drafted[1, :, 2, 4, 8] = 6.0
    with torch.no_grad():
        for parameter in model.layout_draft.area.parameters():
            parameter.zero_()  # it is seen everywhere
        shown = model.layout_draft(plain, drafted) - model.layout_draft(plain, torch.zeros(2, 1, 3, 8, 16))
    rows, columns = shown[5].abs().amax(0).nonzero(as_tuple=True)
    assert not shown[:5].any() and (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 7, 9)


def test_what_depends_on_the_text_alone_is_computed_once():
    model = small_model(layout_grid=(8, 16), outline_grid=(4, 4))
    sample, steps, text = inputs()
    seen, known = [], {}
    for layer in (model.layout_draft.said, model.outline_draft.said, model.add_embedding, model.encoder_hid_proj):
        layer.register_forward_hook(lambda layer, args, out: seen.append(layer))
    with torch.no_grad():
        for x in (sample, sample + 1):
            again = model(x, steps, text, known=known).sample
        assert len(seen) == 4
        torch.testing.assert_close(again, model(sample + 1, steps, text).sample)
        shorter = model(sample[:, :, :2], steps, text, known=known).sample  # whose frames are at other places
        torch.testing.assert_close(shorter, model(sample[:, :, :2], steps, text).sample)


@pytest.mark.parametrize("option", ["layout_grid", "outline_grid"])
def test_a_draft_s_grid_is_checked(option):
    with pytest.raises(ValueError, match=f"{option}=0 is not accepted; it must be an integer of at least 1"):
        small_model(**{option: (0, 16)})


@pytest.mark.parametrize("act", ["gelu", "silu"])
def test_half_precision_inference_and_autocast_training(act):
    model = small_model(act_fn=act, layers_per_block=[1, 2])
    sample, steps, text = inputs()
    exact = model(sample, steps, text).sample
    with torch.autocast("cpu", torch.bfloat16):
        loss = (model(sample, steps, text).sample.float() - exact).square().mean()
    assert loss < 1e-2 * exact.square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    half = model.to(torch.bfloat16)(sample.bfloat16(), steps, text.bfloat16()).sample
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).square().mean() < 1e-2 * exact.square().mean()


def test_without_middle_and_with_a_first_temporal_transformer():
    sample, steps, text = inputs()
    model = small_model(mid_block_type=None, transfromer_in_opt=True, resnet_time_scale_shift="default")
    assert model.transformer_in.proj_in.weight.shape == (512, 16)
    assert model(sample, steps, text).sample.shape == sample.shape
    assert not any(key.startswith("mid_block") for key in model.state_dict())


def test_full_size_runs_on_the_meta_device():
    """Shapes of a production call: 8 frames of 64x40, 77 tokens, learned variance."""
    config, _ = published("base_pixel")
    full = {"block_out_channels": [320, 640, 960, 1280], "encoder_hid_dim": 4096, "cross_attention_dim": 1280}
    full["layers_per_block"] = 1  # of 3, for the test's time
    with torch.device("meta"):
        model = VideoUNet(**config | full | {"attention_head_dim": 64, "addition_embed_type_num_heads": 64})
        output = model(torch.empty(2, 3, 8, 40, 64), torch.zeros(2), torch.empty(2, 77, 4096)).sample
    assert output.shape == (2, 6, 8, 40, 64)
