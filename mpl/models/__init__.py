"""The video UNet of the pixel stages: image blocks with temporal layers between them."""

from mpl.models.unet import VideoUNet

__all__ = ["VideoUNet"]
