"""The UNet's layers against their plain forms and against the library's layers of the same weights."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor
from torch.nn import functional as F
from unet_configs import awaken

from mpl.measure.flops import counting_flops
from mpl.models import attention
from mpl.models.attention import JointAttention, attend
from mpl.models.blocks import Conditions, LayerSpec, Resnet
from mpl.models.convolution import doubled_conv, frame_conv, patches, pointwise
from mpl.models.coordinates import Coordinates
from mpl.models.layout import Layout, draft_loss
from mpl.models.temporal import FrameEmbedding, TemporalConv, TemporalTransformer, as_frames, as_videos


def maps(*shape: int) -> Tensor:
    """A random channels-last tensor that wants gradients."""
    torch.manual_seed(3)
    return torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()


def assert_same(actual: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """Equal values, and equal gradients of the leaves."""
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn(expected.shape)
    mine = torch.autograd.grad((actual * weight).sum(), leaves, retain_graph=True)
    theirs = torch.autograd.grad((expected * weight).sum(), leaves)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frame_conv_is_the_three_dimensional_one(frames):
    x = maps(2, 6, frames, 12)
    weight, bias = torch.randn(4, 6, 3, 1, 1, requires_grad=True), torch.randn(4, requires_grad=True)
    expected = F.conv3d(x[..., None], weight, bias, padding=(1, 0, 0))[..., 0]
    assert_same(frame_conv(x, weight, bias), expected, [x, weight, bias])


def test_frame_conv_skips_gradients_nobody_needs():
    counts = []
    for learning in (False, True):
        x, weight = maps(1, 4, 3, 5), torch.randn(4, 4, 3, 1, 1, requires_grad=learning)
        out = frame_conv(x, weight, torch.randn(4))
        with counting_flops() as backward:
            out.sum().backward()
        assert x.grad is not None and (weight.grad is not None) == learning
        counts.append(backward.total)
    assert 0 < counts[0] < counts[1]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_patches_are_pixels_as_channels_without_another_copy(side):
    clip = torch.randn(2, 3, 2, 6, 12, requires_grad=True)
    expected = F.pixel_unshuffle(clip.transpose(1, 2).flatten(0, 1), side)
    found = patches(clip, side)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_same(found, expected, [clip])


def test_doubled_conv_is_convolution_of_the_doubled_image():
    x = maps(2, 6, 3, 5)
    weight, bias = torch.randn(4, 6, 3, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0), weight, bias, padding=1)
    assert_same(doubled_conv(x, weight, bias), expected, [x, weight, bias])


def test_pointwise_is_the_one_by_one_convolution():
    x = maps(2, 6, 3, 5)
    weight, bias = torch.randn(4, 6, 1, 1, requires_grad=True), torch.randn(4, requires_grad=True)
    assert_same(pointwise(x, weight, bias), F.conv2d(x, weight, bias), [x, weight, bias])


def test_views_move_no_memory_and_undo_each_other():
    x = maps(6, 4, 2, 5).detach()
    video = as_videos(x, 3)
    assert video.shape == (2, 4, 3, 10)
    assert video.data_ptr() == x.data_ptr()
    assert video.is_contiguous(memory_format=torch.channels_last)
    assert video[1, 2, 0, 7] == x[3, 2, 1, 2]
    assert torch.equal(as_frames(video, 2, 5), x)


def test_attention_of_equal_keys_is_the_mean_of_values():
    value = torch.randn(2, 7, 8)
    out = attend(torch.randn(2, 3, 8), torch.ones(2, 7, 8), value, heads=2)
    torch.testing.assert_close(out, value.mean(1, keepdim=True).expand(-1, 3, -1))


def test_short_and_long_attention_agree(monkeypatch):
    query, key, value = (torch.randn(2, n, 12, requires_grad=True) for n in (5, 9, 9))
    short = attend(query, key, value, heads=3)
    monkeypatch.setattr(attention, "PLAIN_KEYS", {})
    assert_same(attend(query, key, value, heads=3), short, [query, key, value])


@pytest.mark.parametrize("keys", [25, 29, 32, 33])
def test_keys_that_fill_a_row_are_looked_at_by_nobody(keys):
    query, key, value = (torch.randn(3, n, 8, requires_grad=True) for n in (5, keys, keys))
    halves = [x.to(torch.bfloat16) for x in (query, key, value)]
    expected = attend(*(x.float() for x in halves), heads=2)
    found = attend(*halves, heads=2)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    mine, plain = (torch.autograd.grad(out.float().sum(), [query, key, value]) for out in (found, expected))
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("only_text", [True, False])
@pytest.mark.parametrize("text_norm", [True, False])
def test_joint_attention_is_the_librarys(only_text, text_norm):
    mine = awaken(JointAttention(32, 8, 64, 4, text_norm, 32, only_text))
    theirs = Attention(
        query_dim=32, cross_attention_dim=32, heads=4, dim_head=8, added_kv_proj_dim=64, norm_num_groups=4, bias=True,
        only_cross_attention=only_text, cross_attention_norm="group_norm" if text_norm else None,
        processor=AttnAddedKVProcessor(),
    )  # fmt: skip
    theirs.load_state_dict(mine.state_dict())
    x, text = maps(6, 32, 2, 3), torch.randn(2, 5, 64)
    expected = theirs(x, encoder_hidden_states=text.repeat_interleave(3, 0))
    assert_same(mine(x, text), expected, [x])


def test_joint_attention_over_frames_is_that_of_one_tall_frame():
    over = awaken(JointAttention(32, 8, 64, 4, True, 32, only_text=False, over_frames=True))
    plain = JointAttention(32, 8, 64, 4, True, 32, only_text=False).eval()
    plain.load_state_dict(over.state_dict())
    over.group_norm = plain.group_norm = torch.nn.Identity()  # which goes frame by frame
    x, text = maps(6, 32, 2, 5), torch.randn(2, 7, 64)
    tall = x.unflatten(0, (2, 3)).transpose(1, 2).flatten(2, 3)  # (b, c, f*h, w)
    expected = plain(tall.contiguous(memory_format=torch.channels_last), text)
    expected = expected.unflatten(2, (3, 2)).transpose(1, 2).flatten(0, 1)
    assert_same(over(x, text), expected, [x])
    assert not torch.allclose(over(x, text), plain(x, text), atol=1e-3)
    torch.testing.assert_close(over(x, text, temporal=False), plain(x, text))
    torch.testing.assert_close(over(x[:2], text), plain(x[:2], text))


def test_temporal_conv_is_the_librarys():
    theirs = awaken(TemporalConvLayer(32, 32, dropout=0.0, norm_num_groups=32))
    mine = TemporalConv(32, groups=32, dropout=0.0).eval()
    mine.load_state_dict(theirs.state_dict())
    x = maps(6, 32, 2, 5)
    assert_same(mine(x, 3), theirs(x, num_frames=3), [x])


def test_temporal_transformer_is_the_librarys():
    theirs = awaken(TransformerTemporalModel(4, 8, in_channels=32, norm_num_groups=4))
    mine = TemporalTransformer(32, heads=4, head_dim=8, groups=4).eval()
    mine.load_state_dict(theirs.state_dict())
    x = maps(6, 32, 2, 5)
    assert_same(mine(x, 3), theirs(x, num_frames=3).sample, [x])


@pytest.mark.parametrize("resize", [None, "up", "down"])
@pytest.mark.parametrize("scale_shift", [True, False])
def test_resnet_is_the_librarys(resize, scale_shift):
    spec = LayerSpec(24, 16, 4, 4, 4, 1e-5, "gelu", False, scale_shift, False, None, 0.0)
    mine = awaken(Resnet(spec, 8, 8 if resize else 12, out_scale=1.5, resize=resize))
    theirs = ResnetBlock2D(
        in_channels=8, out_channels=mine.conv1.out_channels, temb_channels=24, groups=4, eps=1e-5,
        non_linearity="gelu", skip_time_act=True, time_embedding_norm="scale_shift" if scale_shift else "default",
        output_scale_factor=1.5, up=resize == "up", down=resize == "down",
    ).eval()  # fmt: skip
    theirs.load_state_dict(mine.state_dict())
    x, time = maps(6, 8, 4, 6), torch.randn(2, 24)
    expected = theirs(x, time.repeat_interleave(3, 0))
    assert_same(mine(x, Conditions(time, torch.empty(2, 0, 16), 3)), expected, [x])


def test_fresh_temporal_layers_are_the_identity():
    x = maps(6, 32, 2, 5)
    assert torch.equal(TemporalConv(32, 8, 0.1)(x, 3), x)
    assert torch.equal(TemporalTransformer(32, 4, 8, 8)(x, 3), x)


def test_temporal_dropout_is_for_training_only():
    layer = awaken(TemporalConv(32, 8, 0.5))
    x = maps(6, 32, 2, 5)
    assert torch.equal(layer(x, 3), layer(x, 3))
    layer.train()
    assert not torch.equal(layer(x, 3), layer(x, 3))


def test_places_are_heard_however_loud_timestep_and_text_are():
    """The change that a place makes depends on text and place alone; a large timestep once drowned it out."""
    layer, places = awaken(FrameEmbedding(16)), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    condition, text = torch.randn(2, 16), torch.randn(2, 16)

    def change(loudness: float) -> Tensor:
        told = loudness * condition
        return layer(told, loudness * text, places) - told.repeat_interleave(2, 0)

    quiet, loud = change(1.0), change(1000.0)
    torch.testing.assert_close(loud, quiet, rtol=1e-2, atol=1e-3)
    for first, last in quiet.unflatten(0, (2, 2)):
        assert (first - last).norm() > 0.1 * first.norm()


def test_coordinates_are_the_same_map_at_any_size_and_differ_at_every_place():
    layer = awaken(Coordinates(8))
    small, large = (layer(torch.zeros(1, 8, *size)) for size in ((10, 16), (40, 64)))
    assert (F.avg_pool2d(large, 4) - small).abs().max() < 0.1 * small.abs().max()
    places = small[0].flatten(1).T
    apart = torch.cdist(places, places) + torch.eye(len(places))
    assert apart.min() > 0.02


def test_a_draft_says_where_the_text_wants_the_subject_when():
    """Learned from silhouettes alone: one text asks for a path from the left to the right, another for its reverse."""
    torch.manual_seed(0)
    layout, text, places = Layout(8, 4, (2, 4)), torch.randn(2, 5, 8), torch.linspace(0, 1, 4).expand(2, 4)
    there = torch.eye(4).repeat_interleave(3, dim=1)  # frame by frame one column further, three pixels each
    masks = torch.stack([there, there.flip(0)])[:, None, :, None].expand(2, 1, 4, 6, 12)
    optimizer = torch.optim.Adam(layout.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        draft_loss(layout.draft(text, places), masks).mean().backward()
        optimizer.step()
    columns = layout.draft(text, places).sigmoid()[:, 0].mean(2)
    assert columns.argmax(-1).tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]
    alone = layout.draft(text[:1], torch.tensor([[1.0]])).sigmoid()[0, 0, 0].mean(0)
    assert alone.argmax() == 3


def test_drafts_cost_the_cross_entropy_of_their_cells():
    silhouette = torch.zeros(2, 1, 1, 4, 4)
    silhouette[0, ..., :2, :2] = 1.0  # one cell of four is covered
    silhouette[1, ..., :2, 0] = 1.0  # and half of it
    sure = torch.tensor([[20.0, -20.0], [-20.0, -20.0]]).expand(2, 1, 1, 2, 2)
    torch.testing.assert_close(draft_loss(sure, silhouette), torch.tensor([0.0, 20 * 0.5 / 4]), atol=1e-5, rtol=0)


def test_how_large_a_drafted_subject_is_is_said_everywhere_whatever_its_place():
    layout, x = Layout(8, 4, (2, 4)), torch.zeros(3, 4, 2, 4)
    torch.nn.init.ones_(layout.area.weight)
    drafts = torch.full((3, 1, 1, 2, 4), -30.0)
    drafts[0, ..., 0, 0] = drafts[1, ..., 1, 3] = 30.0  # one cell, here or there
    drafts[2] = math.log(1 / 7)  # anywhere: an eighth of a cell in each of eight
    with torch.no_grad():
        said = layout(x, drafts)
    torch.testing.assert_close(said, said[0, 0, 0, 0].expand_as(said))
    twice = layout(x[:1], torch.full((1, 1, 1, 2, 4), math.log(1 / 3)))
    four_times = layout(x[:1], torch.full((1, 1, 1, 2, 4), 0.0))
    doubled = (twice - said[0]).mean().item()
    assert doubled > 1 and (four_times - twice).mean().item() == pytest.approx(doubled, rel=0.05)


def test_a_draft_is_shown_to_pictures_of_any_size():
    layout = awaken(Layout(8, 4, (2, 4)))
    logits = layout.draft(torch.randn(1, 3, 8), torch.tensor([[0.5, 1.0]]))
    small, large = (layout(torch.zeros(2, 4, *size), logits) for size in ((2, 4), (16, 32)))
    inner = F.adaptive_avg_pool2d(large, (2, 4))
    assert torch.corrcoef(torch.stack([small.flatten(), inner.flatten()]))[0, 1] > 0.9
