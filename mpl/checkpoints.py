"""Where checkpoints are: folders, the hub's local cache, their files, and one message where they are not.

A source is a folder or a hub repository ("owner/name", "owner/name@revision") in the layout of diffusers'
published repositories. Nothing is ever downloaded from here. Knows files, not models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent  # sources are looked for here first, then in the current folder

_IF_PAGE = "https://huggingface.co/DeepFloyd/IF-II-L-v1.0"


def _size(gigabytes: int) -> str:
    return f"about {gigabytes} GB in half precision, twice as much in single"


# What is known of published repositories: licence, and size of the parts used here, in half precision.
# Sizes follow from the parameter counts (T5-XXL 4.8, base and interpolation 1.7, IF-II-L 1.2, latent UNet 1.4
# billion).
KNOWN = {
    "showlab/show-1-base": ("CC BY-NC 4.0", _size(14)),
    "showlab/show-1-interpolation": ("CC BY-NC 4.0", _size(4)),
    "showlab/show-1-sr1": ("CC BY-NC 4.0", _size(3)),
    "showlab/show-1-sr2": ("CC BY-NC 4.0", _size(4)),
    # Its page names no licence that we could read, and may hold the weights in both formats.
    "CompVis/stable-diffusion-safety-checker": ("see its page", "about 1.2 GB, twice where both formats come"),
    "DeepFloyd/IF-II-L-v1.0": (f"DeepFloyd IF licence: log in and accept it at {_IF_PAGE}", _size(3)),
}

_HEADER_LIMIT = 100_000_000  # bytes; safetensors' own limit for its header
_READ = 20_000_000  # bytes; up to these files are hashed by content, among them all weights that ship with this project
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # the hub's names for the files that it keeps
_CHUNK = 1 << 22  # bytes that are read at a time
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # how torch.save began its files before torch 1.6


NOWHERE = "no such folder"


@dataclass(frozen=True)
class Missing:
    """Something that a run needs and this machine lacks: folders of one source."""

    option: str  # weights.keyframes, …
    source: str
    folders: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one model: one file, or the shards of an index."""

    files: tuple[Path, ...]
    variant: str | None  # "fp16" where the names say so
    safetensors: bool


def is_repository(source: str) -> bool:
    """Whether a source can be a hub repository: owner/name, perhaps with @revision."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?", source) is not None


def locate(source: str) -> Path | None:
    """The folder of a source on this machine, or None: a folder, else the hub's cache. Touches no network."""
    for folder in (PROJECT / source, Path(source)):
        if folder.is_dir():
            return folder
    if not is_repository(source):
        return None
    from huggingface_hub import snapshot_download

    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (OSError, ValueError) as error:  # not in the cache, or not all of it: who asked for parts has those
        found = getattr(error, "snapshot_path", None)
        return Path(found) if found else None


def weight_files(folder: Path, half: bool) -> WeightFiles | None:
    """The weight files of a model's folder, or None; half-precision files are preferred where `half`.

    safetensors go before pickled files, which torch then reads without running code from them.
    """
    for safetensors in (True, False):
        for variant in ("fp16", None) if half else (None, "fp16"):
            for stem, suffix in _names(safetensors):
                found = _single_or_shards(folder, stem, suffix, variant)
                if found:
                    return WeightFiles(found, variant, safetensors)
    return None


def _names(safetensors: bool) -> tuple[tuple[str, str], ...]:
    if safetensors:
        return (("diffusion_pytorch_model", ".safetensors"), ("model", ".safetensors"))
    return (("diffusion_pytorch_model", ".bin"), ("pytorch_model", ".bin"))


def _single_or_shards(folder: Path, stem: str, suffix: str, variant: str | None) -> tuple[Path, ...]:
    middle = f".{variant}" if variant else ""
    single = folder / f"{stem}{middle}{suffix}"
    if single.is_file():
        return (single,)
    for index in (f"{stem}{suffix}.index{middle}.json", f"{stem}{middle}{suffix}.index.json"):
        if (folder / index).is_file():
            try:
                names = json.loads((folder / index).read_text())["weight_map"].values()
                return tuple(folder / name for name in sorted(set(names)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ValueError(f"{folder / index}: broken index of weight files") from None
    return ()


def verify(path: Path) -> None:
    """Checks that a weight file is whole, from its header and size; cheap for any size.

    Of a pickled file in torch's old format only the beginning can be checked.

    Raises:
        ValueError: the file is missing, truncated or no weight file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing weight file")
    size = path.stat().st_size
    if path.suffix != ".safetensors":
        with path.open("rb") as file:
            old = file.read(len(_OLD_TORCH)) == _OLD_TORCH
        if not old and not zipfile.is_zipfile(path):  # which looks for the directory at the end
            raise ValueError(f"{path}: truncated or corrupt weight file ({size} bytes, its end is missing)")
        return
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _HEADER_LIMIT):
            raise ValueError(f"{path}: truncated or corrupt weight file ({size} bytes, header incomplete)")
        try:
            header = json.loads(file.read(length))
            spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
            wanted = 8 + length + max((end for _, end in spans), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{path}: corrupt weight file (its header cannot be read)") from None
    if size != wanted:
        state = "truncated" if size < wanted else "corrupt"
        raise ValueError(f"{path}: {state} weight file ({size} of {wanted} bytes)")


def verify_vocabulary(folder: Path) -> bool:
    """Reads the vocabulary in a tokenizer's folder, with small libraries: transformers takes seconds to import.

    Returns:
        False where there is none.

    Raises:
        ValueError: a file cannot be read.
    """
    import sentencepiece
    import tokenizers

    readers = {
        "tokenizer.json": tokenizers.Tokenizer.from_file,  # any tokenizer's
        "spiece.model": lambda path: sentencepiece.SentencePieceProcessor(model_file=path),  # T5's
        "vocab.json": lambda path: json.loads(Path(path).read_text(encoding="utf-8")),  # CLIP's
    }
    found = [folder / name for name in readers if (folder / name).is_file()]
    for path in found:
        try:
            readers[path.name](str(path))
        except Exception as error:  # tokenizers has no narrower class
            raise ValueError(f"{path}: cannot be read: {error}") from None
    return bool(found)


def revision(folders: Iterable[Path]) -> str:
    """A hash of files' names and contents, the same on any machine.

    Large ones are not read: of those in the hub's cache a hash is the name, of others size and time must do.
    """
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            stat = path.stat()
            stored = path.readlink().name if path.is_symlink() else ""  # further links of the hub may lie behind
            if stat.st_size <= _READ:
                mark = _content(path.resolve(), stat.st_size, stat.st_mtime_ns)
            else:
                mark = stored if _HASH.fullmatch(stored) else str(stat.st_mtime_ns)
            total.update(f"{folder.name}/{path.relative_to(folder)} {stat.st_size} {mark}\n".encode())
    return total.hexdigest()[:16]


@lru_cache(maxsize=1024)
def _content(path: Path, size: int, time_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_ahead(folders: Sequence[Path], half: bool) -> None:
    """Begins to read models' weight files, so that the system has them in memory as far as that reaches."""

    def read() -> None:
        for folder in folders:
            found = weight_files(folder, half)
            for path in found.files if found else ():
                with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
                    while file.read(_CHUNK):
                        pass

    if folders:
        threading.Thread(target=read, name="mpl-read-ahead", daemon=True).start()


def _maker(source: str) -> str:
    """How weights of this project's own are made, where a source is a place for them."""
    named = re.fullmatch(r"assets/(?P<preset>\w+)/(?P<what>[a-z_]+?)(_cap(?P<cap>\d+))?", source)
    if not named:
        return ""
    if named["preset"] == "ablations":  # of several trainings
        return f"; presets/ablations/{named['what']}.toml names what makes them"
    cap = f" --cap {named['cap']}" if named["cap"] else ""
    return f"; `python -m mpl train {named['what']} --preset {named['preset']}{cap}` makes them"


def _patterns(folder: str) -> tuple[str, ...]:
    """Which files of a repository are a folder's; "." is a repository that holds one model and nothing else."""
    return ("*.json", "*.safetensors", "*.bin") if folder == "." else (f"{folder}/*",)


def licence(source: str) -> str:
    """The licence of the weights of a source: of published ones as known, else as the model card there says."""
    repository = source.partition("@")[0]
    if repository in KNOWN:
        return KNOWN[repository][0]
    root = locate(source)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (root / "README.md").read_text(encoding="utf-8").splitlines() if root else ():
            if line.startswith("license:"):
                return line.removeprefix("license:").strip()
    return "not told"


def missing_message(missing: list[Missing]) -> str:
    """One message for all: what is missing, from where, which licence, how large, where it was looked for."""
    local = [m for m in missing if not is_repository(m.source)]
    said = dict.fromkeys(
        f"{m.option} = {m.source}: {m.reason}{_maker(m.source)}" for m in local
    )  # models may share a source
    lines = ["; ".join(said)] if said else []
    remote = [m for m in missing if is_repository(m.source)]
    if not remote:
        return lines[0]
    from huggingface_hub.constants import HF_HUB_CACHE

    lines.append("These weights are not on this machine:")
    by_source: dict[str, list[Missing]] = {}
    for m in remote:
        by_source.setdefault(m.source, []).append(m)
    for source, parts in by_source.items():
        repository, _, revision = source.partition("@")
        licence, size = KNOWN.get(repository, ("see its page", "size: as its page says"))
        folders = sorted({folder for m in parts for folder in m.folders})
        options = ", ".join(dict.fromkeys(m.option for m in parts))
        patterns = " ".join(f'--include "{pattern}"' for folder in folders for pattern in _patterns(folder))
        lines.append(f"  {options}: https://huggingface.co/{repository} ({size}; licence: {licence})")
        reasons = dict.fromkeys(m.reason for m in parts if m.reason != NOWHERE)  # of what is there and not whole
        lines += [f"      {reason}" for reason in reasons]
        lines.append(f"      hf download {repository} {patterns}" + (f" --revision {revision}" if revision else ""))
    lines.append(f"They are looked for in folders of the same name, then in {HF_HUB_CACHE} (set HF_HOME to move it).")
    return "\n".join(lines)
