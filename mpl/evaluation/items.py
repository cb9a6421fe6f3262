"""The videos that a protocol is about: prompts in a fixed order, of which every metric looks at the first ones."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpl.limits import check_prompt
from mpl.prompts import load_prompts

from .protocols import Protocol, protocol_folder, read_toml

VIDEOS = (".mp4", ".avi", ".webm", ".gif")


@dataclass(frozen=True)
class Item:
    """One video to be made: its prompt, and the class, category or real video that it belongs to."""

    prompt: str
    group: str


def load_items(protocol: Protocol, captions: Path | None) -> list[Item]:
    """Every video that the protocol asks for, in its order.

    Raises:
        ValueError: the captions are not given or not readable, or a prompt is none.
    """
    options = protocol.prompts
    if options.source != "captions" and captions:
        raise ValueError(f"--captions {captions}: {protocol.name} has prompts of its own")
    if options.source == "set":
        return [Item(prompt.text, prompt.category) for prompt in load_prompts(options.file).prompts]
    if options.source == "classes":
        return _in_turn(protocol)
    if captions is None:
        raise ValueError(f"{protocol.name} needs --captions FILE, the data set's {options.file}")
    return _captions(protocol, captions)


def _in_turn(protocol: Protocol) -> list[Item]:
    """Classes take turns, so that the first n videos have all of them as often, give or take one."""
    path = protocol.folder / protocol.prompts.file
    sentences = read_toml(path if path.is_file() else protocol_folder() / protocol.prompts.file)
    classes = [Item(check_prompt(text, f"{protocol.prompts.file}: {name}"), name) for name, text in sentences.items()]
    if len(classes) != protocol.prompts.count:
        raise ValueError(f"{protocol.prompts.file} has {len(classes)} classes, must have {protocol.prompts.count}")
    longest = max(options.videos for options in protocol.metrics.values())
    return [classes[i % len(classes)] for i in range(longest)]


def _captions(protocol: Protocol, path: Path) -> list[Item]:
    """All captions of the test videos: first as many as the Fréchet distances are of, one of each of random videos."""
    videos = _read_captions(path)
    draw = random.Random(protocol.prompts.order_seed)
    asked = [options.videos for options in (protocol.fvd, protocol.fid_vid) if options]
    chosen = draw.sample(sorted(videos), min(max(asked, default=0), len(videos)))
    first = {video: draw.randrange(len(videos[video])) for video in chosen}
    rest = [Item(text, video) for video in sorted(videos) for text in _without(videos[video], first.get(video))]
    draw.shuffle(rest)
    return [Item(videos[video][place], video) for video, place in first.items()] + rest


def _without(texts: list[str], place: int | None) -> list[str]:
    return [text for i, text in enumerate(texts) if i != place]


def _read_captions(path: Path) -> dict[str, list[str]]:
    """MSR-VTT's `test_videodatainfo.json`: captions by video, of test videos only where the file says which are."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        videos = {video["video_id"] for video in values["videos"] if video.get("split", "test") == "test"}
        found: dict[str, list[str]] = {video: [] for video in videos}
        sentences: list[Any] = sorted(values["sentences"], key=lambda sentence: sentence["sen_id"])
        for sentence in sentences:
            if sentence["video_id"] in found:
                found[sentence["video_id"]].append(check_prompt(sentence["caption"], f"caption {sentence['sen_id']}"))
    except OSError as error:
        raise ValueError(f"--captions {path}: cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        shape = '{"videos": [{"video_id", "split"}], "sentences": [{"sen_id", "video_id", "caption"}]}'
        raise ValueError(
            f"--captions {path}: must be as MSR-VTT's test_videodatainfo.json, {shape}: {error!r}"
        ) from None
    found = {video: texts for video, texts in found.items() if texts}
    if not found:
        raise ValueError(f"--captions {path}: holds no caption of a test video")
    return found


def real_videos(protocol: Protocol, folder: Path, items: list[Item]) -> list[Path]:
    """Real videos in the order in which they are taken: those of the captions, or all of the folder, shuffled.

    Raises:
        ValueError: fewer than two videos in it, or one of the captions' missing.
    """
    assert protocol.real is not None
    if protocol.real.choice == "captioned":
        return [_real_video(folder, item.group) for item in items]
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS)
    if len(found) < 2:
        raise ValueError(f"--real {folder}: holds {len(found)} videos ({', '.join(VIDEOS)}); at least 2 are needed")
    random.Random(protocol.real.seed).shuffle(found)
    return found


def _real_video(folder: Path, name: str) -> Path:
    for ending in VIDEOS:
        if (path := folder / f"{name}{ending}").is_file():
            return path
    raise ValueError(f"--real {folder}: {name}.mp4 is not there, the video of a caption")
