"""Folders written as a whole: whatever ends a program, one complete version of them is left."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

# Hosts of git repositories refuse large files, and the embedded models lie in one; models that never will are stored
# in the libraries' own shards.
_SMALL = 200_000_000  # bytes
_MODEL_FILES = ("*.safetensors", "*.index.json", "config.json")
ORIGIN = "began.json"


def replace_folder(fresh: Path, folder: Path) -> None:
    """Puts `fresh` in the place of `folder`; what ends between the two renames leaves `folder` to `recover`."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.is_dir():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Puts back what a `replace_folder` had moved away when it was killed."""
    old = folder.with_name(folder.name + ".old")
    if old.is_dir() and not folder.is_dir():
        os.replace(old, folder)


def has_state(work: Path) -> bool:
    """Whether a run was saved there. A kill may have left it under its other name; looked for in this order, it cannot
    be missed while another process puts it back."""
    return any((work / name).is_dir() for name in ("state.old", "state"))


@dataclass(frozen=True)
class Origin:
    """How a run began: with whose weights (None: fresh ones), which seed, which preset."""

    init_from: Path | None
    seed: int
    preset: str


def write_origin(work: Path, origin: Origin) -> None:
    """Notes in a run's work folder how it began: needed again to build the model when it goes on."""
    folder = str(origin.init_from.resolve()) if origin.init_from else None
    (work / ORIGIN).write_text(json.dumps(asdict(origin) | {"init_from": folder}) + "\n")


def read_origin(work: Path) -> Origin | None:
    """What `write_origin` noted; None where nothing was."""
    path = work / ORIGIN
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    return Origin(Path(values["init_from"]) if values["init_from"] else None, values["seed"], values["preset"])


def save_bf16(model: Any, folder: Path) -> None:
    """Writes a diffusers or transformers model as bfloat16 safetensors: small ones in shards that stay under 9 MB.

    The model's files of an earlier version are replaced once the new ones are whole; all else in the folder stays.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    recover(folder)
    if folder.is_dir():
        shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns(*_MODEL_FILES))
    else:
        fresh.mkdir(parents=True)
    size = 2 * sum(p.numel() for p in model.state_dict().values())
    kept = {name: p.detach().clone() for name, p in model.state_dict().items()}
    try:
        model.to(torch.bfloat16).save_pretrained(fresh, max_shard_size="8MB" if size < _SMALL else "5GB")
    finally:
        model.to(torch.float32).load_state_dict(kept)
    config = fresh / "config.json"
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)  # a path of the machine that trained it
    config.write_text(json.dumps(values, indent=2) + "\n")
    replace_folder(fresh, folder)
