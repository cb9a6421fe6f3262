"""Weights: the one room that knows models' files, where they lie, quantization and offload.

`with weights.borrow("keyframes") as model:` loads on first use, places, and always gives back. What was
chosen for this machine, and why, is `Weights.plan()`; nothing is printed from here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mpl import checkpoints
from mpl.config import STAGES
from mpl.devices import choose_device, choose_dtype
from mpl.loading import first_line, load_model, read_json, read_scheduler
from mpl.memory import main_memory_left
from mpl.options import WeightsOptions
from mpl.parts import CONFIG_KEYS, DEFAULT_LATENT_RGB, NEEDS, PARTS, PREPARATION, UPSAMPLING_NEEDS, Part, part_of
from mpl.pictures import check_preparation

_SPARE = 2 * 10**9  # bytes of main memory that models leave to everything else


class Weights:
    """The models of a preset, loaded when first borrowed. Safe to share between threads."""

    def __init__(self, options: WeightsOptions) -> None:
        """Decides device and number format; reads no weights.

        Raises:
            ValueError: the options ask for what this machine cannot do.
        """
        self.options = options
        self.device, self._device_reason = choose_device(options.device)
        self._dtype, self._dtype_reason = choose_dtype(options.dtype, self.device)
        self._quantization = options.quantization
        if importlib.util.find_spec("bitsandbytes") is None:
            self._quantization = "none"
        self._models: dict[str, nn.Module] = {}
        self._tokenizers: dict[str, Any] = {}
        self._borrowers: dict[str, int] = {}
        self._kept: dict[str, int] = {}  # bytes of those that stay on the device (weights.keep_gb)
        self.renew_locks()

    def renew_locks(self) -> None:
        """New locks, for a forked process: what a thread of its parent held just then nobody would give back."""
        self._lock = threading.RLock()
        self._reading = threading.Lock()  # tokenizers: the page asks for them while a model loads

    def plan(self) -> str:
        """One line for people: where and how models run, with reasons."""
        name = str(self._dtype).removeprefix("torch.")
        offload = "each model goes back to main memory after use, and is forgotten where that has no room"
        if self.options.offload == "drop":
            offload = "each model is forgotten after use"
        elif self.device.type == "cpu":
            offload = "models stay in memory, where they run"
        elif self.options.offload == "none":
            offload = "models stay on the device"
        if self.options.keep_gb and "each" in offload:
            offload += f", but for the first {self.options.keep_gb:g} GB"
        quantized = ""
        if self._quantization != "none":
            quantized = f"; T5 in {self._quantization}, dropped after use"
        elif self.options.quantization != "none":
            quantized = f"; T5 in {name}, since {self.options.quantization} needs bitsandbytes, which is not installed"
        return f"{self.device} ({self._device_reason}), {name} ({self._dtype_reason}); {offload}{quantized}"

    def has(self, name: str) -> bool:
        """Whether the preset names a source for a model, and one that may be without it holds it."""
        part = self._part(name)
        source = getattr(self.options, part.option)
        if source is None or not part.optional:
            return source is not None
        root = checkpoints.locate(source)
        return root is not None and (root / part.folder).is_dir()

    def needs(self, stage: str) -> tuple[str, ...]:
        """The models that a stage needs, its text encoder first."""
        upsamples = stage == "translation" and self.has("upsampling")
        wanted = UPSAMPLING_NEEDS if upsamples else NEEDS[stage]
        return tuple(name for name in wanted if not PARTS[name].optional or self.has(name))

    def dtype(self, name: str) -> torch.dtype:
        """The number format that a model computes in."""
        return torch.float32 if self._part(name).exact else self._dtype

    def quantization(self, name: str) -> str:
        """How a model's weights are quantized; only T5's ever are."""
        return self._quantization if name == "text" else "none"

    # ---- models

    @contextlib.contextmanager
    def borrow(self, name: str) -> Iterator[nn.Module]:
        """A model in eval mode on its device, given back when the block ends, also on error or cancel.

        Raises:
            ValueError: no such model, or its files are missing, broken or of another structure.
        """
        model = self._take(name)
        try:
            yield model
        finally:
            self._give_back(name)

    def read_ahead(self, stages: Iterable[str]) -> None:
        """Lets the operating system read the files of models that come next, while others work.

        Only that: libraries change torch's default number format while they load a model, in all threads.
        """
        # All texts are encoded before the first stage, so that their encoders do not come next.
        names = dict.fromkeys(name for stage in stages for name in self.needs(stage)[1:] if self.has(name))
        with self._lock:
            folders = [self._folder(self._part(name)) for name in names if name not in self._models]
        checkpoints.read_ahead(folders, self._dtype != torch.float32)

    def release(self) -> None:
        """Forgets every model and tokenizer that nobody has borrowed."""
        with self._lock:
            for name in [name for name in self._models if not self._borrowers.get(name)]:
                del self._models[name]
                self._kept.pop(name, None)
            self._tokenizers.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def loaded(self) -> dict[str, int]:
        """The models in memory and their bytes; of a copy, since the lock is held while a model loads."""
        return {name: _bytes(model) for name, model in self._models.copy().items()}

    def licences(self) -> dict[str, str]:
        """Every source that the preset names, and the licence of its weights."""
        sources = dict.fromkeys(getattr(self.options, part.option) for part in PARTS.values())
        return {source: checkpoints.licence(source) for source in sources if source}

    def _take(self, name: str) -> nn.Module:
        with self._lock:
            if name not in self._models:
                self._models[name] = self._load(name)
                if name == "text":
                    self._let_text_come_first()
            model = self._models[name]
            if not self._borrowers.get(name) and self.quantization(name) == "none":
                try:
                    model.to(self.device)
                except BaseException:
                    del self._models[name]  # half of it may have moved
                    self._kept.pop(name, None)
                    raise
            self._borrowers[name] = self._borrowers.get(name, 0) + 1
            return model

    def _give_back(self, name: str) -> None:
        with self._lock:
            self._borrowers[name] -= 1
            if self._borrowers[name]:
                return
            if self.quantization(name) != "none":
                _strip(self._models.pop(name))  # quantized layers do not move between devices
            elif self.options.offload != "none" and not self._stays(name):
                self._put_away(name)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _put_away(self, name: str) -> None:
        """To main memory or away altogether, as `weights.offload` says; away, too, where main memory has no room."""
        model, moves = self._models[name], self.device.type == "cuda"
        if self.options.offload == "drop" or (moves and _bytes(model) + _SPARE > main_memory_left()):
            # Emptied, so that its memory is free even where a stage still has the model in hand.
            nn.Module.to(self._models.pop(name), "meta")
        elif moves:
            model.to("cpu")

    def _let_text_come_first(self) -> None:
        """Where the text encoder is to stay, as in plans (`mpl.measure.plan.walk`), what stayed before it goes.

        With prompts that are on disk already, others came first, and it would lie on top of them.
        """
        size, limit = _bytes(self._models["text"]), self.options.keep_gb * 1e9
        if self.quantization("text") != "none" or not size <= limit < sum(self._kept.values()) + size:
            return
        for name in [name for name in self._kept if not self._borrowers.get(name)]:
            del self._kept[name]
            self._put_away(name)

    def _stays(self, name: str) -> bool:
        """Whether a model that is given back is among the first `weights.keep_gb`, which stay on the device."""
        size = _bytes(self._models[name])
        if name not in self._kept and sum(self._kept.values()) + size <= self.options.keep_gb * 1e9:
            self._kept[name] = size
        return name in self._kept

    def _load(self, name: str) -> nn.Module:
        part = self._part(name)
        how = self.dtype(name), self.quantization(name), self.device
        try:
            return load_model(part.kind, self._folder(part), *how)
        except ValueError as error:
            raise ValueError(f"weights.{part.option}: {error}") from error

    # ---- what comes with them

    def tokenizer(self, name: str) -> Any:
        """The tokenizer of `text` or `clip`.

        Raises:
            ValueError: its files are missing or broken.
        """
        with self._reading:
            if name not in self._tokenizers:
                from transformers import AutoTokenizer

                folder = self._folder(self._part(name), "tokenizer")
                try:
                    self._tokenizers[name] = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                except (OSError, ValueError, KeyError, ImportError) as error:
                    raise ValueError(f"{folder} holds no readable tokenizer: {first_line(error)}") from error
            return self._tokenizers[name]

    def scheduler(self, name: str) -> Any:
        """A fresh scheduler, built as the checkpoint of a model says."""
        return read_scheduler(self._folder(self._part(name), "scheduler"))

    def image_noising_scheduler(self, name: str) -> Any:
        """A fresh schedule of the condition's noise; the model's own where the checkpoint has no other."""
        source = self._folder(self._part(name), ".")
        own = (source / "image_noising_scheduler").is_dir()
        return read_scheduler(source / ("image_noising_scheduler" if own else "scheduler"))

    def latent_rgb(self, name: str = "vae") -> tuple[np.ndarray, np.ndarray]:
        """Factors (c, 3) and offset (3,) from scaled latents of c channels to RGB in [-1, 1], for previews.

        They are read from `latent_rgb.json` beside the autoencoder: `{"latent_rgb_factors": c × 3,
        "latent_rgb_bias": 3}`; without it, Stable Diffusion's are used for 4 channels, and grey for any other number.

        Raises:
            ValueError: the file holds something else.
        """
        folder = self._folder(self._part(name))
        channels = self.latent_channels(name)
        path = folder / "latent_rgb.json"
        values = read_json(path) if path.is_file() else {}
        usual = DEFAULT_LATENT_RGB if channels == 4 else np.full((channels, 3), channels**-0.5)
        try:
            factors = np.asarray(values.get("latent_rgb_factors", usual), np.float32)
            bias = np.asarray(values.get("latent_rgb_bias", (0, 0, 0)), np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"{path}: factors and bias must be lists of numbers, {channels} × 3 and 3") from None
        if factors.shape != (channels, 3) or bias.shape != (3,):
            raise ValueError(f"{path}: factors {factors.shape}, bias {bias.shape}: must be {channels} × 3 and 3")
        return factors, bias

    def latent_channels(self, name: str = "vae") -> int:
        """Channels of an autoencoder's latents."""
        return read_json(self._folder(self._part(name)) / "config.json").get("latent_channels", 4)

    def preparation(self, name: str) -> dict[str, Any]:
        """How pictures are prepared for `safety`: its `preprocessor_config.json`.

        Raises:
            ValueError: the file is missing, or does not say what is needed.
        """
        path = self._folder(self._part(name)) / PREPARATION
        values = read_json(path)
        try:
            check_preparation(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return values

    def unit(self, name: str) -> int:
        """What height and width of a network's pictures must be multiples of, as its config says."""
        config = read_json(self._folder(self._part(name)) / "config.json")
        return config.get("patch_size", 1) * 2 ** (len(config["block_out_channels"]) - 1)

    def picture_unit(self, stage: str) -> int:
        """What height and width of a stage's result must be multiples of."""
        models = self.needs(stage)
        if "vae" in models:
            return self.unit("vae")
        return self.unit(models[1]) * (self.unit("keyframes_vae") if "keyframes_vae" in models else 1)

    def revision(self, name: str) -> str:
        """A hash of the files that a model is made of, with tokenizer and schedules."""
        part = self._part(name)
        source = self._folder(part, ".")
        folders = (source / folder for folder in part.folders)
        return checkpoints.revision(folder for folder in folders if folder.is_dir())

    def revisions(self, stages: Iterable[str]) -> dict[str, str]:
        """The revision of every model that takes part in some stages."""
        models = dict.fromkeys(model for stage in stages for model in self.needs(stage))
        return {model: self.revision(model) for model in models if self.has(model)}

    # ---- before any work

    def check(self, stages: Iterable[str] = STAGES, safety: bool = True) -> None:
        """Checks that everything which the stages need is on this machine, and whole as far as sizes tell.

        Args:
            safety: whether the safety checker is needed, too, where the preset names one (`Preset.safety`).

        Raises:
            ValueError: one message for all that is missing, or the first broken file.
        """
        missing: list[checkpoints.Missing] = []
        names = dict.fromkeys(name for stage in stages for name in self.needs(stage))
        names |= {"safety": None} if safety else {}
        for name in names:
            part = self._part(name)
            source = getattr(self.options, part.option)
            if source is None:  # no image model for the first frame, no safety checker
                continue
            option = f"weights.{part.option}"
            root = checkpoints.locate(source)
            reason = checkpoints.NOWHERE if root is None else self._lacks(root, part)
            if reason:
                missing.append(checkpoints.Missing(option, source, part.folders, reason))
        if missing:
            raise ValueError(checkpoints.missing_message(missing))
        for name in ("vae", "keyframes_vae"):
            if name in names:
                self.latent_rgb(name)
        if "safety" in names and self.has("safety"):
            self.preparation("safety")

    def _lacks(self, root: Path, part: Part) -> str | None:
        """What is not there of a part, in words; raises ValueError where a file is broken."""
        for folder in (part.folder, *part.companions):
            if not (root / folder).is_dir():
                return f"{folder}/ is missing there"
        inside = "" if part.folder == "." else f"{part.folder}/"
        for name in ("config.json", *((PREPARATION,) if part.kind == "safety_checker" else ())):
            if not (root / part.folder / name).is_file():
                return f"{inside}{name} is missing there"
        config = read_json(root / part.folder / "config.json")
        if lacking := [key for key in CONFIG_KEYS[part.kind] if key not in config]:
            raise ValueError(f"{root / part.folder / 'config.json'}: says no {', '.join(lacking)}")
        if "scheduler" in part.companions:
            if not (root / "scheduler" / "scheduler_config.json").is_file():
                return "scheduler/scheduler_config.json is missing there"
            read_scheduler(root / "scheduler")
        if "image_noising_scheduler" in part.perhaps and (root / "image_noising_scheduler").is_dir():
            read_scheduler(root / "image_noising_scheduler")
        if "tokenizer" in part.companions:
            for path in (root / "tokenizer").glob("*.json"):
                read_json(path)
            if not checkpoints.verify_vocabulary(root / "tokenizer"):
                return "tokenizer/ holds no vocabulary there"
        found = checkpoints.weight_files(root / part.folder, half=self._dtype != torch.float32 and not part.exact)
        if found is None:
            return f"{inside or 'it'} holds no weight file"
        for path in found.files:
            checkpoints.verify(path)
        return None

    def _part(self, name: str) -> Part:
        if name not in PARTS:
            raise ValueError(f"model {name!r}: must be one of {', '.join(PARTS)}")
        return part_of(name, self.options)

    def _folder(self, part: Part, folder: str | None = None) -> Path:
        """A folder of a part's source; raises ValueError where the source is not on this machine."""
        source = getattr(self.options, part.option)
        if source is None:
            raise ValueError(f"weights.{part.option}: the preset names none")
        root = checkpoints.locate(source)
        if root is None:
            lacking = checkpoints.Missing(f"weights.{part.option}", source, part.folders, checkpoints.NOWHERE)
            raise ValueError(checkpoints.missing_message([lacking]))
        return root / (folder or part.folder)


def _strip(model: nn.Module) -> None:
    """Takes a model's weights away: 4-bit ones and their layers hold each other, and would wait for the collector."""
    for module in model.modules():
        module._parameters.update(dict.fromkeys(module._parameters))


def _bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
