"""The page's own HTML, as strings: stage panels, progress bar, notices. Whatever comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from mpl.config import STAGES
from mpl.history import address
from mpl.ui.pictures import Strip

TITLES = {
    "keyframes": "Keyframes",
    "interpolation": "Interpolation",
    "superres": "Super-resolution",
    "translation": "Expert translation",
}
PROMISES = {
    "keyframes": "Tiny pictures, far apart in time",
    "interpolation": "The moments between them",
    "superres": "Four times the width and height",
    "translation": "The finished video, painted by the latent expert",
}
STATES = {
    "waiting": "",
    "shipped": "an example",
    "given": "not run",
    "running": "drawing …",
    "done": "done",
    "kept": "kept",
    "stopped": "stopped",
    "failed": "did not finish",
}


@dataclass(frozen=True)
class Panel:
    """What one stage shows: a state of `STATES`, facts in words, and a preview or a video."""

    stage: str
    state: str = "waiting"
    facts: str = ""
    picture: Strip | Path | None = None

    def but(self, state: str, facts: str = "") -> Panel:
        """The same picture in another state."""
        return replace(self, state=state, facts=facts)

    def html(self) -> str:
        number, title = STAGES.index(self.stage) + 1, TITLES[self.stage]
        return (
            f'<figure class="stage" data-stage="{self.stage}" data-state="{self.state}">'
            f'<figcaption><span class="number" aria-hidden="true">{number}</span><span class="title">{title}</span>'
            f'<span class="state">{STATES[self.state]}</span></figcaption>'
            f'<div class="screen">{self._picture(title)}</div>'
            f'<p class="facts">{escape(self.facts) or "&nbsp;"}</p></figure>'
        )

    def _picture(self, title: str) -> str:
        if isinstance(self.picture, Path):
            return (
                f'<video src="{escape(address(self.picture), quote=True)}" aria-label="{title}: video" '
                "loop muted playsinline controls></video>"
            )
        if isinstance(self.picture, Strip):
            sharp = " pixels" if self.picture.pixelated else ""
            style = f"--count:{self.picture.count};--seconds:{self.picture.seconds:.2f}s"
            return (
                f'<img class="strip{sharp}" src="{self.picture.source}" style="{style}" alt="{title}: preview" '
                f'draggable="false">'
            )
        words = "Your video takes its place" if self.state == "given" else PROMISES[self.stage]
        return f'<p class="empty">{words}</p>'


def downloads(video: str, seed: int) -> str:
    """Links to a run's files, by the address of its mp4; the others lie beside it, or are made when asked for."""
    stem = escape(video.removesuffix(".mp4"), quote=True)
    name = f"mpl-video-seed-{seed}"
    kinds = {"mp4": "Download the video", "gif": "GIF", "webm": "WebM", "json": "Recipe"}
    links = [f'<a href="{stem}.{kind}" download="{name}.{kind}">{label}</a>' for kind, label in kinds.items()]
    return f'<p class="downloads">{"".join(links)}</p>'


def progress(fraction: float | None, headline: str, detail: str = "") -> str:
    """The run's progress bar: `fraction` of 0…1 done, or None where that is not known yet."""
    percent = 0 if fraction is None else round(100 * min(max(fraction, 0.0), 1.0))
    now = "" if fraction is None else f' aria-valuenow="{percent}"'
    text = escape(f"{headline} {detail}".strip(), quote=True)
    waiting = " unknown" if fraction is None else ""
    return (
        '<div class="run-progress">'
        f'<p><strong>{escape(headline)}</strong><span class="detail">{escape(detail)}</span></p>'
        '<div class="track" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" aria-valuemax="100"'
        f'{now} aria-valuetext="{text}"><div class="fill{waiting}" style="width:{percent}%"></div></div></div>'
    )


def announcement(text: str) -> str:
    """What a screen reader says when it has a moment; not seen."""
    return f'<p class="unseen" aria-live="polite" role="status">{escape(text)}</p>'


def notices(messages: Iterable[str], error: str = "") -> str:
    """Notices, and the error that kept or ended the run."""
    said = "".join(f'<p class="notice" role="status">{_text(message)}</p>' for message in messages)
    return said + (f'<p class="notice error" role="alert">{_text(error)}</p>' if error else "")


def word_chips(groups: Mapping[str, Iterable[str]]) -> str:
    """Words to click, a group at a time."""
    names = list(groups)
    choices = "".join(
        f'<label><input type="radio" name="words" value="{escape(name)}"{" checked" if name == names[0] else ""}>'
        f"<span>{escape(name)}</span></label>"
        for name in names
    )
    lists = "".join(
        f'<div class="chips" data-of="{escape(name)}">'
        + "".join(
            f'<button type="button" data-group="{escape(name)}" data-chip="{escape(chip, quote=True)}">'
            f"{escape(chip)}</button>"
            for chip in groups[name]
        )
        + "</div>"
        for name in names
    )
    return (
        f'<fieldset class="words"><legend>Words that these models know</legend><div>{choices}</div>{lists}</fieldset>'
    )


def replacements(words: Iterable[tuple[str, str | None]]) -> str:
    """Unknown words in one notice, each with a button that puts the nearest known one in its place."""
    said = []
    for word, near in words:
        said.append(f"“{escape(word)}”")
        if near:
            data = f'data-word="{escape(word, quote=True)}" data-near="{escape(near, quote=True)}"'
            said[-1] += f' <button type="button" {data}>{escape(near)}?</button>'
    return f'<p class="notice" role="status">These models do not know {", ".join(said)}.</p>' if said else ""


def machine(plan: str, loaded: Mapping[str, int], licences: Mapping[str, str], checker: str) -> str:
    """Where models run, which are in memory, what checks their results, and under which licences they come."""
    total = sum(loaded.values()) / 1e6
    names = ", ".join(f"{escape(name)} {size / 1e6:.0f} MB" for name, size in loaded.items())
    memory = (
        f"In memory: {names}; {total:.0f} MB in all." if loaded else "No model is in memory: the first run loads them."
    )
    by_licence: dict[str, list[str]] = {}
    for source, licence in licences.items():
        by_licence.setdefault(licence, []).append(source)
    rows = "".join(f"<li>{escape(name)}: {escape(', '.join(of))}</li>" for name, of in by_licence.items())
    about = f"<p>{escape(plan)}.</p><p>{memory}</p><p>{escape(checker)}</p>"
    return f'<div class="machine">{about}<p>Licences of the weights:</p><ul>{rows}</ul></div>'


def hint(text: str, wrong: bool = False) -> str:
    """A line under a slider or a button; one that says what is wrong is read aloud."""
    return f'<p class="hint wrong" role="status">{escape(text)}</p>' if wrong else f'<p class="hint">{escape(text)}</p>'


def _text(message: str) -> str:
    """Escaped, with its line breaks."""
    return escape(message).replace("\n", "<br>")


def seconds_text(seconds: float) -> str:
    """A time for people: `8 s`, `1 min 05 s`."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
