"""Players on a page of their own, over videos whose every frame tells its number by its grey."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.ui.player import Arm
from mpl.video import write_video

UI = Path(__file__).resolve().parents[2] / "mpl" / "ui"
SPEEDS = ["0.25", "0.5", "1", "2"]
SHADE = 8  # grey levels between one frame and the next
A = Arm('expert <i>on</i> & "more"', "aaaaaaaa.mp4", 29, 8, 128, 72)
B = Arm("no expert", "bbbbbbbb.mp4", 29, 7, 128, 72)
KEYFRAMES = Arm("keyframes", "cccccccc.mp4", 8, 2, 64, 40)
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
STILL = {"reduced_motion": "reduce"}  # begins paused
PLAYER = ".mpl-player"
SHOWN = """const shown = video => {
    const canvas = new OffscreenCanvas(8, 8), brush = canvas.getContext('2d');
    brush.drawImage(video, 0, 0, 8, 8);
    return Math.round(brush.getImageData(4, 4, 1, 1).data[0] / SHADE) - 1;
};""".replace("SHADE", str(SHADE))
# What both arms show, at every turn of the browser, until B has said and shown so many different frames.
WATCH = """wanted => new Promise(done => {
    SHOWN
    const root = document.querySelector('.mpl-player'), videos = [...root.querySelectorAll('video')];
    const said = [], seen = [];
    const look = () => {
        said.push([Number(root.dataset.frameA), Number(root.dataset.frameB)]);
        seen.push(videos.map(shown));
        const full = [said, seen].every(pairs => new Set(pairs.map(pair => pair[1])).size >= wanted);
        full ? done({said, seen}) : requestAnimationFrame(look);
    };
    look();
})""".replace("SHOWN", SHOWN)
TURNS = "new Promise(done => { let left = 40; const go = () => --left ? requestAnimationFrame(go) : done(); go(); })"
# How Gradio's HTML part takes new HTML over: element by element, in place.
PATCH = """([root, html]) => {
    const patch = (old, fresh) => {
        if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh.cloneNode(true));
        if (old.nodeType === Node.TEXT_NODE) { old.textContent = fresh.textContent; return; }
        for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
        for (const {name, value} of fresh.attributes) {
            if (old.getAttribute(name) !== value) old.setAttribute(name, value);
        }
        const before = [...old.childNodes], after = [...fresh.childNodes];
        for (let i = 0; i < Math.max(before.length, after.length); i++) {
            if (!before[i]) old.appendChild(after[i].cloneNode(true));
            else if (!after[i]) before[i].remove();
            else patch(before[i], after[i]);
        }
    };
    const holder = document.createElement('div');
    holder.innerHTML = html;
    patch(root, holder.firstElementChild);
}"""


@pytest.fixture(scope="module")
def videos(served: tuple[Path, str]) -> None:
    for arm in (A, B, KEYFRAMES):
        grey = SHADE * (1 + np.arange(arm.frames))[:, None, None, None]
        frames = np.broadcast_to(grey, (arm.frames, arm.height, arm.width, 3)).astype(np.uint8)
        write_video(served[0] / arm.address, frames, arm.fps)


@pytest.fixture
def show(open_page: Callable[..., Any], videos: None) -> Callable[..., Any]:
    """Opens a page with some players' HTML; all of them show a frame when it returns."""

    def show(*parts: str, settled: bool = True, **options: Any) -> Any:
        style, script = ((UI / f"player.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        page = open_page(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Player</title>'
            '<meta name="viewport" content="width=device-width"><style>body { --accent: #a8421f; margin: 12px }'
            f"{style}</style>"
            f"{''.join(parts)}<script>({script})()</script>",
            **options,
        )
        if settled:
            for root in page.locator(PLAYER).all():
                wait(root, "root.dataset.frameA !== undefined && (root.dataset.frameA + root.dataset.frameB)")
        return page

    return show


def wait(root: Any, condition: str) -> None:
    """Until a condition holds of `root`."""
    root.page.wait_for_function(f"root => {condition}", arg=root.element_handle())


def wait_for_frame(root: Any, index: int, other: int | None = None) -> None:
    """Until A shows a frame, and B the same one or `other`."""
    a, b = index, index if other is None else other
    wait(root, f"root.dataset.settled === 'true' && root.dataset.frameA === '{a}' && root.dataset.frameB === '{b}'")


def data(root: Any) -> dict[str, str]:
    return root.evaluate("root => ({...root.dataset})")


def choose(root: Any, key: str, value: str) -> None:
    root.locator(f"[data-key={key}][value='{value}']").check(force=True)  # the text lies over it


def apart(a: int, b: int, count: int = 29) -> int:
    """Frames between two of a loop."""
    return min((a - b) % count, (b - a) % count)
