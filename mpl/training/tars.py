"""Tar shards in WebDataset's layout, NAME.mp4 and NAME.txt a sample: found, shared out to processes, indexed.

A shard is looked through once, headers and captions alone, and says where each video lies; videos are then read from
any place in it. So batches need no stream that would have a position to be kept: they go on depending on seeds alone.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mpl.limits import check_prompt, shown

OPTION = "data.shards"
VIDEO, CAPTION = "mp4", "txt"  # endings
_BLOCK = 512  # of a tar; the end is marked by empty ones


@dataclass(frozen=True, slots=True)
class Sample:
    """A video inside a shard."""

    shard: Path
    name: str
    caption: str
    start: int  # of its bytes
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def webdataset() -> ModuleType:
    """The library, which knows the layout's conventions. Raises ValueError where it is not installed."""
    try:
        import webdataset.shardlists
        import webdataset.tariterators
    except ModuleNotFoundError:
        raise ValueError("tar shards need the package webdataset: pip install -r requirements-training.txt") from None
    return webdataset


def find_shards(pattern: str) -> list[Path]:
    """The shards that a folder holds, or that a pattern with braces names (`videos/{000000..000127}.tar`).

    Raises:
        ValueError: none, or one that is not there.
    """
    if Path(pattern).is_dir():
        shards = sorted(Path(pattern).glob("*.tar"))
    else:
        try:
            shards = [Path(path) for path in webdataset().shardlists.expand_urls(pattern)]
        except AssertionError as error:  # a variable that is not set
            raise ValueError(f"{OPTION} = {shown(pattern)}: {error}") from None
    for shard in shards:
        if not shard.is_file():
            raise ValueError(
                f"{OPTION} = {shown(pattern)}: no file {shard}; accepted: a folder with tar files, or a pattern "
                "such as videos/{000000..000127}.tar"
            )
    if not shards:
        raise ValueError(f"{OPTION} = {shown(pattern)}: no tar files there")
    return shards


def own_shards(shards: Sequence[Path]) -> list[Path]:
    """Those of this process: of n processes under torchrun each has every n-th.

    Raises:
        ValueError: there are fewer shards than processes.
    """
    processes = webdataset().utils.pytorch_worker_info()[1]
    if len(shards) < processes:
        raise ValueError(f"{OPTION}: {len(shards)} shards for {processes} processes; each needs one or more of its own")
    return list(webdataset().shardlists.split_by_node(shards))


def read_samples(shard: Path) -> tuple[list[Sample], list[str]]:
    """A shard's samples, in its order, and what is wrong with those that cannot be used.

    Raises:
        ValueError: the tar is broken, compressed, or ends in the middle.
    """
    split = webdataset().tariterators.base_plus_ext
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    samples, problems = [], []
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name, ending = split(member.name)
                if name and member.isfile():
                    found.setdefault(name, {})[ending.lower()] = member
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):  # Python takes a broken header for the end
                raise tarfile.ReadError(f"unreadable from byte {tar.offset} on")
            for name, parts in found.items():
                try:
                    video, caption = _video(parts), _caption(tar, parts)
                except ValueError as error:
                    problems.append(f"{shard.name}: {name}: {error}")
                else:
                    samples.append(Sample(shard, name, caption, video.offset_data, video.size))
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{OPTION}: {shard}: broken tar: {error}") from None
    return samples, problems


def _video(parts: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    if VIDEO not in parts:
        raise ValueError(f"no {VIDEO}")
    return parts[VIDEO]


def _caption(tar: tarfile.TarFile, parts: dict[str, tarfile.TarInfo]) -> str:
    if CAPTION not in parts:
        raise ValueError(f"no {CAPTION}")
    file = tar.extractfile(parts[CAPTION])
    assert file is not None  # it is a file, not a link
    return check_prompt(file.read().decode("utf-8", "surrogateescape"), CAPTION)
