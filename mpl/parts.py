"""What a preset's models are made of: which option names their source, which folders there, which stage needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpl.options import WeightsOptions


@dataclass(frozen=True)
class Part:
    """One model of a preset: the option that names its source, its folder there, and what else it needs."""

    option: str
    folder: str
    kind: str
    companions: tuple[str, ...] = ("scheduler",)
    perhaps: tuple[str, ...] = ()  # used where it is there
    exact: bool = False  # computes in float32, whatever the others do
    optional: bool = False  # a checkpoint may do without it

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.folder, *self.companions, *self.perhaps)


PARTS = {
    "text": Part("text", "text_encoder", "t5", ("tokenizer",)),
    "clip": Part("translation", "text_encoder", "clip", ("tokenizer",)),
    "keyframes": Part("keyframes", "unet", "video_unet"),
    "keyframes_vae": Part("keyframes", "vae", "autoencoder", (), optional=True),  # of keyframes made as latents
    "interpolation": Part("interpolation", "unet", "video_unet"),
    "superres": Part("superres", "unet", "video_unet", perhaps=("image_noising_scheduler",)),
    "superres_first_frame": Part("superres_first_frame", "unet", "image_unet", perhaps=("image_noising_scheduler",)),
    "translation": Part("translation", "unet", "latent_unet"),
    "vae": Part("translation", "vae", "autoencoder", ()),
    "upsampling": Part("upsampling", "unet", "video_unet", perhaps=("image_noising_scheduler",)),
    # Its thresholds lie close together: what is withheld must not depend on the machine's number format.
    "safety": Part("safety", ".", "safety_checker", (), exact=True),
}


def part_of(name: str, options: WeightsOptions) -> Part:
    """A model of a preset, which may name a source of its own for stage 4's network."""
    part = PARTS[name]
    return replace(part, option="expert") if name == "translation" and options.expert else part


PREPARATION = "preprocessor_config.json"  # of pictures, beside the safety checker

# By stage; the first is the text encoder. `Weights.needs` knows what a preset has instead.
NEEDS = {
    "keyframes": ("text", "keyframes", "keyframes_vae"),
    "interpolation": ("text", "interpolation"),
    "superres": ("text", "superres", "superres_first_frame"),
    "translation": ("clip", "translation", "vae"),
}
UPSAMPLING_NEEDS = ("text", "upsampling")  # of the last stage, where pixels are upsampled instead

# What a kind's config.json says at least. The libraries would put their defaults in place of what is missing.
_UNET_KEYS = ("block_out_channels", "cross_attention_dim", "in_channels")
CONFIG_KEYS = {
    "t5": ("d_model", "num_layers", "vocab_size"),
    "clip": ("hidden_size", "num_hidden_layers", "vocab_size"),
    "video_unet": _UNET_KEYS,
    "image_unet": _UNET_KEYS,
    "latent_unet": _UNET_KEYS,
    "autoencoder": ("block_out_channels", "latent_channels"),
    "safety_checker": ("vision_config", "projection_dim"),
}

# Scaled latents (4) to RGB in [-1, 1] (3) for Stable Diffusion's autoencoder, a linear fit by user keturn in
# "Decoding latents to RGB without upscaling", discuss.huggingface.co, 2022.
DEFAULT_LATENT_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)
