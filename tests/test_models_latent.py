"""Stage 4's networks with quick layers: the same numbers, the same keys."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel

from mpl.models.latent import LatentAttention, Upsample, fold_upsampling, quicken
from mpl.models.temporal import TemporalConv, TemporalTransformer

SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
}


@pytest.fixture
def unet() -> UNet3DConditionModel:
    torch.manual_seed(0)
    model = UNet3DConditionModel(**SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # diffusers' own layers over frames start as the identity
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 5, 8, 16), torch.tensor([10, 700]), torch.randn(2, 7, 12)


def test_same_numbers_same_keys_same_gradients(unet: UNet3DConditionModel) -> None:
    unet.eval()
    sample, t, text = inputs()
    before = unet(sample, t, text).sample
    before.square().sum().backward()
    keys, gradients = set(unet.state_dict()), {n: p.grad.clone() for n, p in unet.named_parameters()}
    unet.zero_grad()
    assert quicken(unet) is unet
    after = unet(sample, t, text).sample
    after.square().sum().backward()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert set(unet.state_dict()) == keys
    for name, parameter in unet.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-2)


def test_text_is_projected_once_for_all_frames_and_calls(unet: UNet3DConditionModel) -> None:
    sample, t, text = inputs()
    expected = unet.eval()(sample, t, text).sample
    seen, known = [], {}
    for layer in quicken(unet).modules():
        if isinstance(layer, LatentAttention):
            layer.to_k.register_forward_hook(lambda layer, args, out: seen.append(args[0]))
    for _ in range(2):
        torch.testing.assert_close(unet(sample, t, text, known=known).sample, expected, rtol=1e-4, atol=1e-5)
    asked = [told for told in seen if told.shape[2] == text.shape[2]]  # the others are pixels of their own frame
    assert len(asked) == len(known) > 0 and all(torch.equal(told, text) for told in asked)


def test_every_layer_over_frames_is_replaced_once(unet: UNet3DConditionModel) -> None:
    plain = [type(m).__name__ for m in unet.modules()]
    quicken(unet)
    convs = sum(isinstance(m, TemporalConv) for m in unet.modules())
    attentions = sum(isinstance(m, TemporalTransformer) for m in unet.modules())
    assert convs == plain.count("TemporalConvLayer") > 0
    assert attentions == plain.count("TransformerTemporalModel") > 0
    assert all(m.training for m in unet.modules())
    assert quicken(unet).down_blocks[0].temp_convs[0].conv2[2].p == 0.1


def test_another_structure_is_refused(unet: UNet3DConditionModel) -> None:
    attention = unet.transformer_in.transformer_blocks[0].attn1
    attention.to_q = torch.nn.Linear(attention.to_q.in_features, attention.to_q.out_features, bias=True)
    with pytest.raises(ValueError, match="transformer_in of UNet3DConditionModel"):
        quicken(unet)


@pytest.mark.parametrize("size", [(8, 16), (7, 9)])
def test_sides_that_cannot_be_halved_are_doubled_to_what_they_were(
    unet: UNet3DConditionModel, size: tuple[int, int]
) -> None:
    sample, t, text = torch.randn(1, 4, 2, *size), torch.tensor([10]), torch.randn(1, 7, 12)
    with torch.no_grad():
        expected = unet.eval()(sample, t, text).sample
        torch.testing.assert_close(quicken(unet)(sample, t, text).sample, expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == sample.shape


def test_an_autoencoder_convolves_while_it_doubles() -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    vae = AutoencoderKL(**blocks, block_out_channels=(4, 8, 12), latent_channels=5, norm_num_groups=2).eval()
    latents, keys = torch.randn(2, 5, 3, 7), set(vae.state_dict())
    with torch.no_grad():
        expected = vae.decode(latents).sample
        attentions = [m for m in vae.modules() if type(m).__name__ == "Attention"]
        assert fold_upsampling(vae) is vae
        torch.testing.assert_close(vae.decode(latents).sample, expected, rtol=1e-4, atol=1e-5)
    assert sum(isinstance(m, Upsample) for m in vae.modules()) == 2 and set(vae.state_dict()) == keys
    assert attentions and all(m in list(vae.modules()) for m in attentions)  # which have biases, and stay
