"""The player that compares two videos frame by frame, as a string of HTML; player.js runs it, player.css dresses it.

Whatever comes from outside is escaped. Two arms, A and B, keep their letters whichever side they are on.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from html import escape

from mpl.history import PIXELS

SHAPE = (576, 320)  # w, h of the pictures while no video is there
STRETCH = 1.15  # shapes as near as 8:5 and 9:5 are drawn over each other, as the cascade's last stage stretches them
RULED = 60  # frames that the timeline has room to mark one by one
SPEEDS = {"0.25": "¼×", "0.5": "½×", "1": "1×", "2": "2×"}
ZOOMS = {"fit": "Fit", "1": "1:1", "2": "2×", "4": "4×"}
VIEWS = {"side": "Side by side", "wipe": "Wipe"}
KEYS = (
    ("Space K", "play or pause"),
    (", .", "one frame back, one frame forward"),
    ("Home End", "first frame, last frame"),
    ("← →", "on the timeline: one frame; on the enlarged pictures: move them"),
    ("S", "swap sides"),
    ("W", "wipe, or side by side"),
)
_ICONS = {
    "play": '<path d="M8 5.6v12.8a.9.9 0 0 0 1.4.8l9.6-6.4a1 1 0 0 0 0-1.6L9.4 4.8A.9.9 0 0 0 8 5.6z"/>',
    "pause": '<rect x="6.5" y="5" width="4" height="14" rx="1"/><rect x="13.5" y="5" width="4" height="14" rx="1"/>',
    "first": '<path d="M6 5h2v14H6zm13 1.2v11.6a.7.7 0 0 1-1.1.6L9.6 12.6a.8.8 0 0 1 0-1.2l8.3-5.8a.7.7 0 0 1 1 .6z"/>',
    "back": '<path d="M15.5 6.5 10 12l5.5 5.5" class="stroke"/>',
    "forward": '<path d="M8.5 6.5 14 12l-5.5 5.5" class="stroke"/>',
    "grip": '<path d="m9 7.5-4.5 4.5 4.5 4.5m6-9 4.5 4.5-4.5 4.5" class="stroke thin"/>',
    "swap": '<path d="M4 9h15m-4-4 4 4-4 4M20 15H5m4-4-4 4 4 4" class="stroke thin"/>',
}
# Names that say nothing: a digest as the shelf gives, or one letter.
_NAMELESS = re.compile(r"(?:[ab]|[0-9a-f]{8,})\.mp4")


@dataclass(frozen=True)
class Arm:
    """A video: what it is called, its address relative to the page (not escaped yet), and what is in the file."""

    label: str
    address: str
    frames: int
    fps: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("frames", "fps", "width", "height"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value}: must be above 0")


@dataclass(frozen=True)
class Unready:
    """An arm without a video yet: what it is called, and what stands in its place."""

    label: str
    text: str


def player(a: Arm, b: Arm, blind: bool = False) -> str:
    """The player over two videos.

    Args:
        blind: no label, no facts, and nothing else that tells which arm is which. The files must carry no recipe: the
            page cannot hide what can be downloaded.

    Raises:
        ValueError: blind, and the addresses say more than that there are two.
    """
    return _player(a, b, blind)


def unready_player(a: Arm | Unready, b: Arm | Unready, blind: bool = False) -> str:
    """The same player while an arm, or both, has no video yet; the other can be played. Raises as `player`."""
    return _player(a, b, blind)


# ---- parts


def _player(a: Arm | Unready, b: Arm | Unready, blind: bool) -> str:
    ready = [arm for arm in (a, b) if isinstance(arm, Arm)]
    if blind:
        _check_nameless(ready)
    largest = max(ready, key=lambda arm: arm.width * arm.height, default=None)
    width, height = (largest.width, largest.height) if largest else SHAPE
    pictures = _arm("A", a, "left", blind, width / height) + _arm("B", b, "right", blind, width / height)
    return (
        f'<section class="mpl-player" aria-label="Comparison of A and B" style="--w:{width};--h:{height}" '
        'data-view="side" data-zoom="fit" data-speed="1" data-swapped="false">'
        f'<div class="arms" tabindex="0" role="group" aria-label="Pictures: A left, B right">{pictures}'
        f'<div class="divider" aria-hidden="true"><i>{_icon("grip")}</i></div></div>'
        f'{_console(ready)}<p class="said" role="status"></p></section>'
    )


def _check_nameless(arms: list[Arm]) -> None:
    places = [arm.address.rpartition("/") for arm in arms]
    if len({folder for folder, _, _ in places}) > 1:
        raise ValueError("blind: both videos must lie in one folder")
    for _, _, name in places:
        if not _NAMELESS.fullmatch(name):
            raise ValueError(f"blind: {name} may give an arm away: must be a.mp4, b.mp4 or hexadecimal digits and .mp4")


def _arm(letter: str, arm: Arm | Unready, side: str, blind: bool, shape: float) -> str:
    """One picture under its caption; `shape` is width by height of the box that both are drawn into."""
    label = "" if blind else f'<span class="label">{escape(arm.label)}</span>'
    attributes = f'class="arm" data-arm="{letter.lower()}" data-side="{side}"'
    if isinstance(arm, Unready):
        caption = f'<span class="badge">{letter}</span>{label}'
        picture = f'<p class="note">{escape(arm.text)}</p>'
    else:
        facts = f"{arm.fps:g} fps · {arm.width}×{arm.height}"
        facts = "" if blind else f'<span class="facts">{facts}</span>'
        count = f'<span class="count">1 / {arm.frames}</span>'
        caption = f'<span class="badge">{letter}</span>{label}{facts}{count}'
        attributes += f' data-frames="{arm.frames}" data-fps="{arm.fps:g}"'
        picture = _video(f"Video {letter}" + ("" if blind else f": {arm.label}"), arm, shape)
    screen = f'<div class="screen" tabindex="-1">{picture}</div>'
    return f"<figure {attributes}><figcaption>{caption}</figcaption>{screen}</figure>"


def _video(name: str, arm: Arm, shape: float) -> str:
    own = arm.width / arm.height
    looks = ["sharp"] if arm.width <= PIXELS else []
    looks += [] if max(own / shape, shape / own) <= STRETCH else ["whole"]
    address = escape(arm.address, quote=True)
    return (
        f'<video src="{address}" class="{" ".join(looks)}" aria-label="{escape(name, quote=True)}" muted playsinline '
        'disablepictureinpicture preload="auto"></video>'
    )


def _console(ready: list[Arm]) -> str:
    """Everything that is pressed, pulled or chosen; of no use before a video is there."""
    frames = max((arm.frames for arm in ready), default=1)
    transport = (
        f"{_button('first', 'First frame')}{_button('back', 'One frame back')}"
        f'<button type="button" class="play" data-act="play" aria-label="Play">{_icon("play")}{_icon("pause")}</button>'
        f"{_button('forward', 'One frame forward')}"
    )
    both = "" if len(ready) == 2 else " disabled"
    return (
        f'<fieldset class="console"{"" if ready else " disabled"}><legend class="unseen">Player</legend>'
        f"{_divider_range()}{_timeline(ready, frames)}"
        f'<div class="row"><div class="transport">{transport}</div>'
        f"{_choice('speed', 'Speed', SPEEDS, '1')}{_choice('zoom', 'Zoom', ZOOMS, 'fit')}"
        f'<fieldset class="pair"{both}><legend class="unseen">Two pictures</legend>'
        f"{_choice('view', 'View', VIEWS, 'side')}"
        f'<button type="button" class="swap" data-act="swap" aria-pressed="false">{_icon("swap")}Swap sides</button>'
        f"</fieldset></div>{_keys()}</fieldset>"
    )


def _timeline(ready: list[Arm], frames: int) -> str:
    """The range over the frames of the longer video, with a mark for each and a longer one for the shorter's."""
    counts = sorted({arm.frames for arm in ready if 1 < arm.frames <= RULED})
    two = " two" if len(counts) > 1 else ""
    readout = f'<span class="readout" aria-hidden="true"><b>1</b> / {frames}</span>'
    ruler = "".join(f'<i style="--count:{count}"></i>' for count in counts)
    return (
        f'<div class="timeline"><span class="ruler{two}" aria-hidden="true">{ruler}</span>'
        f'<input type="range" class="scrubber" min="0" max="{frames - 1}" step="1" value="0" aria-label="Timeline" '
        f'aria-valuetext="frame 1 of {frames}">{readout}</div>'
    )


def _divider_range() -> str:
    return (
        '<label class="divide"><span class="name">Divider</span><input type="range" class="wipe" min="0" max="100" '
        'step="1" value="50" aria-valuetext="50 % A, 50 % B"></label>'
    )


def _button(act: str, name: str) -> str:
    return f'<button type="button" data-act="{act}" aria-label="{name}" title="{name}">{_icon(act)}</button>'


def _choice(key: str, name: str, options: dict[str, str], chosen: str) -> str:
    """Radio buttons as one segmented control; the script names them apart from those of other players."""
    radios = "".join(
        f'<label><input type="radio" data-key="{key}" value="{value}"{" checked" if value == chosen else ""}>'
        f"<span>{text}</span></label>"
        for value, text in options.items()
    )
    return f'<fieldset class="choice {key}"><legend>{name}</legend><div class="segments">{radios}</div></fieldset>'


def _keys() -> str:
    rows = "".join(
        f"<div><dt>{' '.join(f'<kbd>{key}</kbd>' for key in keys.split())}</dt><dd>{does}</dd></div>"
        for keys, does in KEYS
    )
    return f'<details class="keys"><summary>Keys</summary><dl>{rows}</dl></details>'


def _icon(name: str) -> str:
    return f'<svg data-icon="{name}" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[name]}</svg>'
