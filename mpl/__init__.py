"""MPL-Video: text-to-video by a cascade of pixel and latent diffusion models."""

__version__ = "0.1.0"
