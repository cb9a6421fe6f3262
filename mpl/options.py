"""The blocks of a preset: what every stage and its models can be told, with defaults. Knows the standard library only.

Every value is checked when its block is made (`mpl.limits`), so that a block that exists holds nothing impossible.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import get_type_hints

from mpl.limits import coerce


class Checked:
    """A block that checks its values when it is made, and makes whole numbers floats where the key is one."""

    _block = ""

    def __post_init__(self) -> None:
        prefix = f"{self._block}." if self._block else ""
        types = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if not is_dataclass(value):
                object.__setattr__(self, f.name, coerce(prefix + f.name, value, types[f.name]))


@dataclass(frozen=True)
class WeightsOptions(Checked):
    """Where the models are and how they are held."""

    _block = "weights"
    text: str = "assets/storybook/text"  # folder or hub repo with text_encoder/ and tokenizer/
    keyframes: str = "assets/storybook/keyframes"
    interpolation: str = "assets/storybook/interpolation"
    superres: str = "assets/storybook/superres"
    superres_first_frame: str | None = None
    translation: str = "assets/storybook/translation"  # unet/, scheduler/, vae/, text_encoder/, tokenizer/
    expert: str | None = None  # unet/ and scheduler/ of stage 4, where not translation's own
    upsampling: str | None = None  # stage 4 in pixels instead of latents (paper, Table 4): unet/, scheduler/
    safety: str | None = None  # the safety checker's folder or repo, all of it; the embedded world needs none
    dtype: str = "auto"  # auto | float32 | bfloat16 | float16
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    # After use: none: models stay on the device; stage: they go back to the CPU's memory; drop: they are forgotten.
    offload: str = "stage"
    keep_gb: float = 0.0  # of stage and drop: models that stay on the device all the same, first come, first kept
    quantization: str = "none"  # none | int8 | nf4: the T5 encoder's


@dataclass(frozen=True)
class TextOptions(Checked):
    """Step 0: the prompt becomes embeddings."""

    _block = "text"
    tokens: int = 32
    negative_prompt: str = ""  # pixel stages
    translation_negative_prompt: str = ""
    # A prompt that names one of the nouns, and none of the adjectives, gets one of the latter, drawn by the seed
    # (`mpl.completion`). Words and phrases with commas between; none of the `other_adjectives` is ever written.
    nouns: str = ""
    adjectives: str = ""
    other_adjectives: str = ""
    places: str = ""  # such a prompt gets one of these phrases, too,
    place_words: str = ""  # unless one of these may say a place
    no_places: str = ""  # elsewhere than in these phrases
    # Words that the models do not know, each with the one that is read in its place.
    substitutes: str = ""


@dataclass(frozen=True)
class SampledOptions(Checked):
    """How a stage denoises: what all four have in common."""

    steps: int = 20
    guidance: float = 1.0
    guidance_from: int = 0  # lowest timestep that is guided, and
    guidance_to: int = 999  # the highest (Kynkäänniemi et al. 2024)
    split_guidance: bool = False  # two calls, not one of [negative, positive]: saves memory
    solver: str = "checkpoint"  # checkpoint (its scheduler) | ddpm | ddim | dpm++ | sde-dpm++ | unipc | deis
    spacing: str = "checkpoint"  # of the timesteps: checkpoint | linspace | leading | trailing | karras

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance_from > self.guidance_to:
            raise ValueError(
                f"{self._block}.guidance_from = {self.guidance_from}: must not be above {self._block}.guidance_to "
                f"({self.guidance_to})"
            )


@dataclass(frozen=True)
class PixelOptions(SampledOptions):
    """What the stages in pixels have besides."""

    deep_every: int = 1  # one of so many steps computes the network's deep levels, the others use what it kept


@dataclass(frozen=True)
class KeyframesOptions(PixelOptions):
    """Stage 1: a few frames far apart in time, from noise."""

    _block = "keyframes"
    frames: int = 8
    height: int = 40
    width: int = 64
    guidance: float = 4.0
    mixed_noise: float = 0.0  # share of the noise's variance that all frames have in common, as in the training


@dataclass(frozen=True)
class InterpolationOptions(PixelOptions):
    """Stage 2: new frames between each pair of keyframes."""

    _block = "interpolation"
    between: int = 3  # new frames between two keyframes
    steps: int = 8
    fill: str = "zeros"  # zeros (paper) | linear (published)
    noise_level: int = 0  # timestep of the noise added to the given frames; 0 adds none
    gaps_per_batch: int = 7
    keep_keyframes: bool = True  # published: False
    shared_noise: bool = False  # published: one x_T for every gap


@dataclass(frozen=True)
class WindowedOptions(PixelOptions):
    """Pixels made larger under a noised bilinear condition, window by window."""

    steps: int = 8
    snr: float = 5.5  # inf adds no noise to the condition
    window: int = 8
    stride: int = 7
    chained: bool = True  # a window's first frame is conditioned on what the one before made of it (paper 3.5)
    back_projection: int = 0  # the mean of so many given pixels across is kept (`back_project`); 0: of none
    shared_noise: bool = False  # published: every window re-seeded, so noise repeats

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride >= self.window:
            raise ValueError(
                f"{self._block}.stride = {self.stride}: must be below {self._block}.window ({self.window}), "
                "so that the last frame of one window is the first of the next"
            )


@dataclass(frozen=True)
class SuperresOptions(WindowedOptions):
    """Stage 3: four times the size, window by window."""

    _block = "superres"
    height: int = 160
    width: int = 256
    first_frame_steps: int = 70  # only where weights name superres_first_frame
    first_frame_guidance: float = 4.0
    first_frame_noise_level: int = 150


@dataclass(frozen=True)
class UpsamplingOptions(WindowedOptions):
    """Stage 4 where weights.upsampling names a model: as stage 3, to the size that translation says."""

    _block = "upsampling"


@dataclass(frozen=True)
class TranslationOptions(SampledOptions):
    """Stage 4: noise the clip in latent space and denoise it with the expert (SDEdit)."""

    _block = "translation"
    height: int = 320
    width: int = 576
    steps: int = 6
    strength: float = 0.5
    cap: int = 900
    grid: str = "from_start"  # from_start | published
    step_span: int = 1  # of grid "from_start": a step covers so many timesteps at least; low starts have fewer steps
    resize: str = "bilinear"  # bilinear (paper) | published (8-bit, bicubic)
    posterior: str = "mode"  # mode | sample (published)
    decode_frames: int = 4  # frames per VAE call
    tiling: bool = False  # the autoencoder works in overlapping tiles as large as its config's sample_size
    tile_overlap: float = 0.25  # of neighbouring tiles, at least so much of their side
    back_projection: int = 0  # the mean of so many given pixels across is kept, less where strength is high; 0: of none
    feed_forward_parts: int = 1  # the network's widest layers work in so many parts, one after another: saves memory
    eta: float = 0.0  # DDIM only: 1 is ancestral (paper, Table 5), 0 deterministic (published call)
