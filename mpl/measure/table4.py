"""The paper's Table 4, its column of memory: the last stage in pixels against the same in latents.

The paper gives 72 GB for upsampling in pixels and 15 GB for translation in latents, and does not say how either was
measured. Here both are estimated the same way as all else, one stage alone, in 16 bits, with guidance in one call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpl.config import Preset
from mpl.measure.estimates import Estimates
from mpl.measure.plan import frames
from mpl.measure.structures import Structure
from mpl.models.inflate import config_from_2d
from mpl.windows import superres_windows

PAPER = {"pixel": 72, "latent": 15}  # GB, Table 4


@dataclass(frozen=True)
class Row:
    """One way to do the last stage."""

    kind: str  # pixel or latent
    what: str
    weights: int  # bytes
    activations: int

    @property
    def peak(self) -> int:
        return self.weights + self.activations


def rows(preset: Preset, estimates: Estimates) -> list[Row]:
    """The last stage of a preset, at its size and length, in pixels and in latents.

    In pixels by networks of two structures, that of `superres` and, where there is one, that of the first frame's image
    model with layers over frames. Which of them the paper measured is not known.

    Raises:
        ValueError: the preset's last stage has no autoencoder.
    """
    o, count = preset.translation, frames(preset)
    if preset.weights.upsampling:
        raise ValueError("--table4: the preset's last stage is in pixels already")
    window = max(map(len, superres_windows(count, preset.superres.window, preset.superres.stride)))
    found = []
    for title, structure in _pixel_structures(preset, estimates):
        pixels = Estimates(replace(preset.weights, upsampling=title), estimates.like)
        pixels.put("upsampling", structure)
        size = pixels.weights("upsampling")
        for length, how in ((count, f"all {count} frames at once"), (window, f"windows of {window}")):
            shape = (1, 3, length, o.height, o.width)
            need = pixels.denoiser("upsampling", shape, preset.text.tokens, o.guidance, False)
            found.append(Row("pixel", f"network like {title}, {how}", size, need))
    unit = 2 ** (len(estimates.config("vae").block_out_channels) - 1)
    shape = (1, estimates.config("vae").latent_channels, count, o.height // unit, o.width // unit)
    size = estimates.weights("translation")
    for parts in dict.fromkeys((1, o.feed_forward_parts)):
        need = estimates.denoiser("translation", shape, preset.text.tokens, o.guidance, False, parts)
        cut = f", feed-forwards in {parts} parts" if parts > 1 else ""
        found.append(Row("latent", f"network, all {count} frames at once{cut}", size, need))
    for together in dict.fromkeys((count, min(count, o.decode_frames))):
        need = estimates.decode("vae", together, o)
        what = f"decoder, {together} frame{'s' if together > 1 else ''} at a time"
        found.append(Row("latent", what, estimates.weights("vae"), need))
    return found


def _pixel_structures(preset: Preset, estimates: Estimates) -> list[tuple[str, Structure]]:
    found = [(preset.weights.superres, estimates.structure("superres"))]
    if preset.weights.superres_first_frame:
        image = estimates.structure("superres_first_frame")
        made = replace(image, kind="video_unet", config=config_from_2d(image.config))
        found.append((preset.weights.superres_first_frame, made))
    return found
