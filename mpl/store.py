"""The caches of stages' results and of prompts' embeddings, on disk, under a hash of everything that they depend on.

Files are safetensors with the figures in the header. Written beside and renamed, so that a kill
leaves no broken entry; least recently used entries go when the folder outgrows its bound. Knows numpy, not
torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpl.limits import check_folder

TEXT_BYTES = 1_000_000_000  # about 300 prompts of T5-XXL and CLIP, with their negative prompts
OFF = "off"
_SUFFIX = ".safetensors"
# What a cache deletes are files that bear its names, whatever else lies in a folder that somebody gives it.
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.\d+\.\d+\.tmp|\.tmp\w{6}")
_STALE = 3600.0  # seconds after which a temporary file must be a killed process's


@dataclass(frozen=True)
class Entry:
    """What was stored: named arrays, and the JSON values that were given with them."""

    arrays: dict[str, np.ndarray]
    info: dict[str, Any]


def digest(*parts: Any) -> str:
    """SHA-256 of JSON values and arrays as 64 hex digits; the order of keys does not matter."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"array {part.dtype} {part.shape} ".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            total.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
        total.update(b"\0")
    return total.hexdigest()


def _delete(path: Path) -> bool:
    """False where the system refuses, as Windows does for a file that somebody reads."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


class StageCache:
    """Entries in one folder, at most `max_bytes` together; safe for several threads and processes."""

    def __init__(self, folder: str | Path, max_bytes: int = 2_000_000_000) -> None:
        """Takes `folder`, made when the first entry is put.

        Raises:
            ValueError: `max_bytes` is not above 0.
        """
        if max_bytes <= 0:
            raise ValueError(f"max_bytes = {max_bytes}: must be above 0")
        self.folder = Path(folder)
        self.max_bytes = max_bytes

    def get(self, key: str) -> Entry | None:
        """The entry of a key, or None; a broken entry is deleted."""
        path = self._path(key)
        try:
            arrays, info = _read(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError):
            _delete(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of use, which pruning goes by
        return Entry(arrays, info)

    def put(self, key: str, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> bool:
        """Stores an entry and prunes the folder; False where the disk refuses, which only costs time."""
        if sum(a.nbytes for a in arrays.values()) > self.max_bytes:
            return False
        path = self._path(key)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(temporary, arrays, info)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        self.prune()
        return True

    def prune(self) -> None:
        """Deletes the least recently used entries until the rest fits, and what killed processes left."""
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process may prune at the same time
                stat = path.stat()
                if _ENTRY.fullmatch(path.name):
                    entries.append((stat.st_mtime, stat.st_size, path))
                elif _is_temporary(path) and time.time() - stat.st_mtime > _STALE:
                    _delete(path)
        excess = sum(size for _, size, _ in entries) - self.max_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            excess -= size if _delete(path) else 0

    def bytes(self) -> int:
        """What the entries take on disk."""
        total = 0
        for path in self._entries():
            with contextlib.suppress(FileNotFoundError):  # another process may prune at the same time
                total += path.stat().st_size
        return total

    def clear(self) -> None:
        """Deletes every entry."""
        for path in self._entries():
            path.unlink(missing_ok=True)

    def _entries(self) -> Iterator[Path]:
        return (path for path in self.folder.glob(f"*{_SUFFIX}") if _ENTRY.fullmatch(path.name))

    def _path(self, key: str) -> Path:
        name = f"{key}{_SUFFIX}"
        if not _ENTRY.fullmatch(name):
            raise ValueError(f"cache key {key!r}: must be 64 hex digits, as `digest` gives them")
        return self.folder / name


def text_cache(asked: str | None, out: str | Path, clear: bool = False) -> StageCache | bool:
    """Where prompts' embeddings are kept: apart from stages' results, since a few clips would push them all out.

    Args:
        asked: `--text-cache`: a folder or "off"; None means `text` in `out`.
        out: folder of the videos.
        clear: `--clear-text-cache`: whether what is kept there is forgotten.

    Returns:
        The cache, or False where they are not to be kept: the `texts` of `cascade.generate`.

    Raises:
        ValueError: `asked` is a folder that cannot be written to, or "off" and `clear`. The default is not checked:
            where it cannot be written to, prompts are encoded anew.
    """
    if asked == OFF:
        if clear:
            raise ValueError(f"--clear-text-cache: --text-cache = {OFF} names none to clear; accepted: a folder")
        return False
    cache = StageCache(check_folder(asked, "--text-cache") if asked else Path(out) / "text", TEXT_BYTES)
    if clear:
        cache.clear()
    return cache


def _is_temporary(path: Path) -> bool:
    """Ours, or what safetensors writes to before it renames it to ours."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def _write(path: Path, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
    """Raises OSError where the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"info": json.dumps(dict(info)), "crc32": _checksum(contiguous)}
    try:
        save_file(contiguous, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path.name}: {error}") from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and figures of a file; raises FileNotFoundError, or ValueError where it is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if metadata.get("crc32") != _checksum(arrays):
        raise ValueError(f"{path.name}: its content has changed since it was written")
    return arrays, json.loads(metadata["info"])
