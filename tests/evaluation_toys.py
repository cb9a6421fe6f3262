"""Random networks in the published files' names and shapes, and tiny data sets, for the tests of the evaluation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from mpl.evaluation import command, networks
from mpl.evaluation.protocols import protocol_folder
from mpl.training.vocabulary import build_tokenizer
from mpl.video import write_video

CLASSES = 101


class ToyC3D(nn.Module):
    """Probabilities of 101 classes, of clips of any size in 8 bits or in float."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(clips.float().mean([3, 4]).flatten(1) / 64).softmax(1)


class ToyInception(nn.Module):
    """Eight features of pictures of any size in 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 8)

    def forward(self, pictures: Tensor, return_features: bool = False) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(pictures.float() / 128 - 1, [2, 2]).flatten(1)
        return self.head(x) if return_features else x


def script(network: nn.Module, path: Path) -> Path:
    """Writes a network as TorchScript."""
    torch.jit.script(network).save(str(path))
    return path


def make_clip(folder: Path, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)) -> None:
    """A CLIP with random weights in the published layout, for pictures of a mean and deviation."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = build_tokenizer(12)
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 12, "eos_token_id": 3}
    vision = {**small, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preparation = {"image_mean": list(mean), "image_std": list(std), "size": {"shortest_edge": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))


def make_networks(folder: Path) -> Path:
    """All networks of the protocols; the I3D only where cd-fvd is installed."""
    folder.mkdir()
    torch.manual_seed(0)
    script(ToyC3D(), folder / "c3d_ucf101.pt")
    script(ToyInception(), folder / "inception-2015-12-05.pt")
    make_clip(folder / "clip-vit-base-patch32")
    try:
        from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
    except ImportError:
        return folder
    torch.save(InceptionI3d(400, in_channels=3).state_dict(), folder / "i3d_pretrained_400.pt")
    return folder


def table_without_hashes(path: Path) -> Path:
    """The table of networks, with no SHA-256 known: random ones are taken."""
    lines = networks.TABLE.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.endswith('"') or '.pt" = ' not in line))
    return path


def noise_video(path: Path, frames: int, seed: int, fps: float = 25, height: int = 48, width: int = 64) -> Path:
    """A video of random blocks, which compression keeps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (frames, height // 16, width // 16, 3), np.uint8)
    return write_video(path, blocks.repeat(16, axis=1).repeat(16, axis=2), fps)


def make_ucf101(folder: Path, videos: int) -> Path:
    """Some videos in folders of classes, 25 frames per second; one of them is shorter than two seconds."""
    for i in range(videos):
        noise_video(folder / "Archery" / f"v_Archery_g{i:02d}_c01.mp4", 60, i)
    noise_video(folder / "Biking" / "v_Biking_g01_c01.mp4", 12, 99)
    return folder


def make_msrvtt(folder: Path, videos: int) -> tuple[Path, Path]:
    """The folder of test videos and the captions' file, three captions for each; one training video besides."""
    names = [f"video{7010 + i}" for i in range(videos)]
    for i, name in enumerate(names):
        noise_video(folder / "videos" / f"{name}.mp4", 60, i)
    about = [{"video_id": name, "split": "test"} for name in names] + [{"video_id": "video1", "split": "train"}]
    sentences = [
        {"sen_id": 10 * i + k, "video_id": entry["video_id"], "caption": f"a red car {entry['video_id']} {k}"}
        for i, entry in enumerate(about)
        for k in range(3)
    ]
    captions = folder / "test_videodatainfo.json"
    captions.write_text(json.dumps({"videos": about, "sentences": sentences}))
    return folder / "videos", captions


def changed(tmp_path: Path, name: str, *changes: tuple[str, str]) -> str:
    """A copy of a protocol with texts replaced."""
    text = (protocol_folder() / f"{name}.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "own.toml").write_text(text)
    return str(tmp_path / "own.toml")


def asked(*words: str) -> argparse.Namespace:
    """The options of `evaluate` as the command line hands them on, with `--json`."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args(words)), json=True)
