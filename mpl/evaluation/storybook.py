"""The storybook protocol: what the embedded models make of held-out captions, and of held-out renders.

Held-out means attribute combinations that nothing that generates was trained on; case i is always the same scene,
caption and seed i, so that figures of two presets can be compared pair by pair. Results come from the cascade's events,
as the page and the command line get them.
"""

from __future__ import annotations

import json
import operator
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.cascade import check_options, generate
from mpl.checkpoints import revision
from mpl.config import STAGES, Preset
from mpl.events import Failed, StageFinished, StageKept
from mpl.models.judge import Judge
from mpl.noise import NoiseSource
from mpl.sampling import fold, unfold
from mpl.shards import Shard
from mpl.stages.interpolation import linear_blend
from mpl.stages.translation import decode_latents, encode_clip
from mpl.store import StageCache
from mpl.storybook.captions import Caption, caption, in_first_words
from mpl.storybook.paraphrases import SPOKEN, paraphrase
from mpl.storybook.render import render
from mpl.storybook.scene import ATTRIBUTES, CLOCK_FRAMES, Scene, scene_for_index
from mpl.terminal import RunFailed
from mpl.video import to_clip
from mpl.weights import Weights

from .metrics import feature_distance, frechet_distance, gradient_energy, mean_interval, psnr, steadiness
from .protocols import load_storybook_protocol
from .resampling import jackknife_of_ratio
from .shares import of_attribute, of_steadiness, of_words

# Parts of the protocol, most named as the stage that they measure, and the judges that they ask.
PARTS = {
    "keyframes": ("judge",),
    "interpolation": (),
    "superres": ("judge_detail",),
    "translation": ("judge_detail",),
    "video": ("judge", "judge_detail"),
}
CLIP = Path(__file__).resolve().parents[2] / "assets" / "storybook" / "clip"  # of CLIPSIM, of whole videos
_STAGES = {"translation": ("superres", "translation"), "video": STAGES}  # that a part runs, where it is no stage's name
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Case:
    """One scene with its caption; its number is the seed as well."""

    index: int
    scene: Scene
    caption: Caption

    @property
    def in_first_words(self) -> frozenset[str]:
        """Named attributes that the caption says in the first of all words for them."""
        text, scene = self.caption.text, self.scene
        return frozenset(name for name in self.caption.named if in_first_words(text, scene, name))


def cases(count: int, split: str | None = None, style: str | None = None) -> Iterator[Case]:
    """The first `count` cases of a split, by default the protocol's, and their captions in its style or another.

    In the style "spoken" they are paraphrases of "mixed" ones: what people say.
    """
    chosen = load_storybook_protocol().cases
    for i in range(chosen.seed, chosen.seed + count):
        scene = scene_for_index(i, split or chosen.split)
        rng, asked = random.Random(f"evaluation:{i}"), style or chosen.style
        said = caption(scene, rng, style="mixed" if asked == SPOKEN else asked)
        if asked == SPOKEN:
            said = Caption(str(paraphrase(said.text, rng)), said.named)
        yield Case(i, scene, said)


def unsaid(found: dict[str, bool], case: Case) -> dict[str, bool]:
    """Of what is found by attribute, the attributes that the caption leaves unsaid."""
    return {k: value for k, value in found.items() if k not in case.caption.named}


@dataclass
class Bench:
    """What every part needs: the preset, its weights, and the judges' folder."""

    preset: Preset
    weights: Weights
    judges: Path
    report: Report = lambda done, of: None
    store: StageCache | None = None  # of stages that are done: an evaluation that was broken off goes on
    split: str | None = None  # "heldout", or "train", whose combinations of attributes the models have learned
    style: str | None = None  # of captions, where it is not the protocol's
    shard: Shard | None = None  # of the cases, for a part of the work that fills `store`

    def cases(self, count: int) -> Iterator[Case]:
        found = cases(count, self.split, self.style)
        return found if self.shard is None else (case for _, case in self.shard.of_list([*found]))

    def revisions(self, parts: Iterable[str]) -> dict[str, str]:
        """Of the models and judges that parts ask."""
        parts = tuple(parts)
        stages = dict.fromkeys(stage for part in parts for stage in _STAGES.get(part, (part,)))
        return self.weights.revisions(stages) | self.judge_revisions(parts)

    def judge_revisions(self, parts: Collection[str]) -> dict[str, str]:
        """Of the judges that parts ask, and of the CLIP that scores whole videos."""
        judges = {name: revision([self.folder(name)]) for part in parts for name in PARTS[part]}
        return judges | ({"clipsim": revision([CLIP])} if "video" in parts else {})

    def check(self, parts: Iterable[str]) -> None:
        """Raises ValueError where a model or judge that the parts need is not there: hours may lie before its turn.

        Or where the preset's options do not fit its models, or its clips are not what judges were made for.
        """
        stages = dict.fromkeys(stage for part in parts for stage in _STAGES.get(part, (part,)))
        self.weights.check(stages, safety=self.preset.safety)
        check_options([*stages], self.preset, self.weights)
        for name in dict.fromkeys(name for part in parts for name in PARTS[part]):
            self.folder(name)
        self._check_lengths({"keyframes", "video"} & {*parts})
        if "video" in parts and not (CLIP / "config.json").is_file():
            raise ValueError(f"{CLIP}: no CLIP there, which CLIPSIM needs; train one with `python -m mpl train clip`")

    def _check_lengths(self, judged: Collection[str]) -> None:
        count = self.preset.keyframes.frames
        if judged:
            moments = json.loads((self.folder("judge") / "config.json").read_text(encoding="utf-8"))["frames"]
            if count != moments:
                raise ValueError(f"keyframes.frames = {count}: the judge in {self.judges} was made for {moments}")

    def folder(self, name: str) -> Path:
        """Where a judge lies. Raises ValueError where it does not."""
        folder = self.judges / name
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: no judge there; train one with `python -m mpl train {name}`")
        return folder

    def judge(self, name: str) -> Judge:
        return Judge.from_pretrained(self.folder(name), torch_dtype=torch.float32).eval()

    def run(self, case: Case, stage: str, clip: Tensor | None = None) -> Tensor:
        """One stage alone from a given clip, or keyframes from the caption: (1 3 f h w) in [-1, 1]."""
        options: dict[str, Any] = {"stop_after": stage}
        if clip is not None:
            options |= {"start_at": stage, "clip": clip}
        return to_clip(self.stages(case, **options)[stage].frames)

    def stages(self, case: Case, **options: Any) -> dict[str, StageFinished | StageKept]:
        """What every stage of a run of the caption gives; `options` are those of `generate`."""
        found: dict[str, StageFinished | StageKept] = {}
        for event in generate(case.caption.text, self.preset, self.weights, case.index, store=self.store, **options):
            if isinstance(event, StageFinished | StageKept):
                found[event.stage] = event
            if isinstance(event, Failed):
                raise RunFailed(f"case {case.index}: {event.message}")
        return found

    @torch.no_grad()
    def without_expert(self, clip: Tensor) -> Tensor:
        """What stage 4 makes of a clip with its autoencoder alone: encoded and decoded, not denoised."""
        options = self.preset.translation
        latents = encode_clip(clip, options, self.weights, NoiseSource(0))
        return decode_latents(latents, options, self.weights).clamp(-1, 1)

    @torch.no_grad()
    def round_trip(self, clip: Tensor) -> Tensor:
        """A clip (1 3 f h w) encoded and decoded by the autoencoder of latent keyframes."""
        with self.weights.borrow("keyframes_vae") as vae:
            frames = fold(clip).to(self.weights.device, self.weights.dtype("keyframes_vae"))
            decoded = vae.decode(vae.encode(frames).latent_dist.mode()).sample
        return unfold(decoded.to("cpu", torch.float32), clip.shape[2]).clamp(-1, 1)

    @property
    def times(self) -> list[float]:
        """When the frames of a finished clip are, on the storybook's clock of 29, all of which keyframes take."""
        count = (self.preset.keyframes.frames - 1) * self.spacing + 1
        return [i * (CLOCK_FRAMES - 1) / max(1, count - 1) for i in range(count)]

    @property
    def spacing(self) -> int:
        """How many frames of a finished clip lie from one keyframe to the next."""
        return self.preset.interpolation.between + 1

    def size(self, stage: str) -> tuple[int, int]:
        """Height and width that a stage gives."""
        options = getattr(self.preset, "keyframes" if stage == "interpolation" else stage)
        return options.height, options.width


@torch.no_grad()
def keyframes(bench: Bench, count: int) -> dict[str, Any]:
    """Share of captions whose named attributes the judge sees in the keyframes; its own accuracy on the same scenes.

    `round_trip` is that accuracy once the renders have been through the autoencoder of latent keyframes, whose ceiling
    it is; it is there where they have one. `steady` is the share of videos in whose every frame the judge sees the
    same of what the caption leaves unsaid, `steady_on_renders` the same of all captions' renders.
    """
    judge = bench.judge("judge")
    latent = bench.weights.has("keyframes_vae")
    rights: list[dict[str, bool]] = []
    firsts: list[frozenset[str]] = []
    oracle, ceiling = list[dict[str, bool]](), list[dict[str, bool]]()
    steady, steady_truth = list[dict[str, bool]](), list[dict[str, bool]]()
    for case in bench.cases(count):
        labels = case.scene.labels
        truth = render(case.scene, bench.times[:: bench.spacing], *bench.size("keyframes"))
        clip = bench.run(case, "keyframes")
        right = _right(judge, clip, labels)
        rights.append({k: v for k, v in right.items() if k in case.caption.named})
        firsts.append(case.in_first_words)
        oracle.append(_right(judge, truth, labels))
        steady.append(unsaid(steadiness(judge.by_frame(clip)), case))
        steady_truth.append(steadiness(judge.by_frame(truth)))
        if latent:
            ceiling.append(_right(judge, bench.round_trip(truth), labels))
        bench.report(case.index + 1, count)
    names = judge.config.attributes
    figures = {"attributes": rights, "judge_on_renders": oracle} | ({"round_trip": ceiling} if latent else {})
    told = {key: {k: of_attribute(of, k) for k in names} for key, of in figures.items()}
    return told | {"words": of_words(rights, firsts)} | of_steadiness(steady, steady_truth)


def _right(judge: Judge, clip: Tensor, labels: Mapping[str, str]) -> dict[str, bool]:
    return {k: seen == labels[k] for k, seen in verdict(judge, clip).items()}


def verdict(judge: Judge, clip: Tensor) -> dict[str, str]:
    """What a judge sees in a clip (1 3 f h w), by attribute; one of fewer frames looks at them all, part by part."""
    frames = judge.config.frames
    parts = torch.cat(clip[:, :, : clip.shape[2] // frames * frames].split(frames, dim=2))
    return {k: ATTRIBUTES[k][int(logits.mean(0).argmax())] for k, logits in judge(parts).items()}


@torch.no_grad()
def interpolation(bench: Bench, count: int) -> dict[str, Any]:
    """PSNR of the frames between true keyframes, against blending the two keyframes linearly."""
    rows = []
    for case in bench.cases(count):
        truth = render(case.scene, bench.times, *bench.size("interpolation"))
        given = truth[:, :, :: bench.spacing]
        made = bench.run(case, "interpolation", given)
        blend = linear_blend(given, bench.spacing - 1)
        middle = [i for i in range(truth.shape[2]) if i % bench.spacing]
        rows.append((psnr(made[:, :, middle], truth[:, :, middle]), psnr(blend[:, :, middle], truth[:, :, middle])))
        bench.report(case.index + 1, count)
    made_db, blend_db = (torch.cat(column) for column in zip(*rows, strict=True))
    return {
        "psnr_db": round(made_db.mean().item(), 2),
        "linear_psnr_db": round(blend_db.mean().item(), 2),
        "gain_db": mean_interval(made_db - blend_db),
    }


def superres(bench: Bench, count: int) -> dict[str, Any]:
    """Whole clips of true small renders made larger, window after window, against bilinear enlargement."""
    return _enlargement(bench, count, "superres", _renders(bench, "interpolation"))


def translation(bench: Bench, count: int) -> dict[str, Any]:
    """Whole clips made full size, against bilinear enlargement of the same.

    Of what stage 3 makes of true small renders, which is what the stage is there for, also by the autoencoder alone,
    without the expert; and of true renders as large as that, which have all detail of their size: an upper bound of
    what is given.
    """
    small = _renders(bench, "interpolation")
    made = {case.index: bench.run(case, "superres", small(case)) for case in bench.cases(count)}

    def of_superres(case: Case) -> Tensor:
        return made[case.index]

    return {
        "of_superres": _enlargement(bench, count, "translation", of_superres),
        "autoencoder_alone": _enlargement(bench, count, "translation", of_superres, bench.without_expert),
        "of_renders": _enlargement(bench, count, "translation", _renders(bench, "superres")),
    }


def _renders(bench: Bench, stage: str) -> Callable[[Case], Tensor]:
    """True clips of the size that a stage gives."""
    return lambda case: render(case.scene, bench.times, *bench.size(stage))


@torch.no_grad()
def _enlargement(
    bench: Bench,
    count: int,
    stage: str,
    source: Callable[[Case], Tensor],
    make: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Any]:
    """Distance to true renders in the detail judge's features, PSNR and gradient energy; each beside bilinear's.

    What is given is made large by the stage, or by `make`.
    """
    judge = bench.judge("judge_detail")
    rows, seen = [], defaultdict[str, list[Tensor]](list)
    for case in bench.cases(count):
        given, truth = source(case), _renders(bench, stage)(case)
        made = make(given) if make else bench.run(case, stage, given)
        plain = unfold(F.interpolate(fold(given), bench.size(stage), mode="bilinear"), given.shape[2])
        clips = {"truth": truth, "made": made, "plain": plain}
        features = {k: judge.features(clip) for k, clip in clips.items()}
        for k, of_frames in features.items():
            seen[k].append(of_frames[0])
        rows.append(
            torch.cat(
                [
                    feature_distance(features["made"], features["truth"]),
                    feature_distance(features["plain"], features["truth"]),
                    psnr(made, truth),
                    psnr(plain, truth),
                    gradient_energy(made) / gradient_energy(truth),
                    gradient_energy(plain) / gradient_energy(truth),
                ]
            )
        )
        bench.report(case.index + 1, count)
    return _of_pairs(torch.stack(rows)) | _of_sets(seen)


def _of_pairs(table: Tensor) -> dict[str, Any]:
    """Figures of each clip and its render, as means over the clips."""
    names = ("distance", "bilinear_distance", "psnr_db", "bilinear_psnr_db", "energy", "bilinear_energy")
    means = {name: round(table[:, i].mean().item(), 4) for i, name in enumerate(names)}
    # Of means: clips of plain subjects, of which bilinear enlargement is near already, would decide the mean of ratios.
    of_means = round((table[:, 0].sum() / table[:, 1].sum()).item(), 4)
    return means | {"ratio_of_means": of_means, "distance_ratio": mean_interval(table[:, 0] / table[:, 1])}


def _of_sets(features: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
    """FID in the judge's features of all frames (each clip's f d), of what was made and of bilinear enlargement."""

    def fids(kept: Sequence[int]) -> list[float]:
        made, plain, truth = (torch.cat([features[k][i] for i in kept]) for k in ("made", "plain", "truth"))
        return [frechet_distance(x, truth) for x in (made, plain)]

    made, plain = fids(range(len(features["truth"])))
    ratio = jackknife_of_ratio(len(features["truth"]), lambda kept: operator.truediv(*fids(kept)))
    return {"fid": round(made, 4), "bilinear_fid": round(plain, 4), "fid_ratio": ratio}
