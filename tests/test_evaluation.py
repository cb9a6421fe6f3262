"""Evaluation: known answers of the figures, and every part of the protocol end to end on tiny models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_toys import asked
from PIL import Image

import mpl.command  # noqa: F401  (imported while load_preset is replaced, it would keep the replacement)
from mpl.config import STAGES, Preset, override
from mpl.evaluation import ablations, command, shares, storybook, whole
from mpl.evaluation.metrics import (
    consistency,
    feature_distance,
    flicker,
    frechet_distance,
    gradient_energy,
    mean_interval,
    psnr,
    seam_ratio,
    steadiness,
)
from mpl.intervals import Share
from mpl.models.judge import Judge
from mpl.store import StageCache
from mpl.storybook.scene import ATTRIBUTES, is_heldout
from mpl.terminal import RunFailed
from mpl.weights import Weights


def test_wilson_interval_of_a_share() -> None:
    """8 of 10: Newcombe (1998), method 3, gives 0.490 to 0.943."""
    figures = Share(8, 10).as_dict()
    assert (figures["share"], figures["low"], figures["high"]) == pytest.approx((0.8, 0.490, 0.943), abs=5e-4)
    assert Share(10, 10).as_dict()["high"] == 1.0


def test_a_share_of_nothing_is_none_and_valid_json() -> None:
    figures = Share(0, 0).as_dict()
    assert figures == {"right": 0, "of": 0, "share": None, "low": None, "high": None}
    assert "NaN" not in json.dumps(figures)


def test_mean_and_its_interval() -> None:
    """1, 2, 3: mean 2, standard deviation 1, half width 4.303/√3 of two degrees of freedom, to within 1 %."""
    figures = mean_interval(torch.tensor([1.0, 2.0, 3.0]))
    assert figures == {"mean": 2.0, "low": pytest.approx(-0.484, abs=0.03), "high": pytest.approx(4.484, abs=0.03)}
    assert mean_interval(torch.tensor([1.5])) == {"mean": 1.5, "low": None, "high": None}


def test_psnr_counts_from_the_range_of_two() -> None:
    clip = torch.zeros(2, 3, 2, 4, 4)
    off = clip.clone()
    off[1] += 0.2  # 10 log10(2² / 0.2²) = 20 dB
    assert psnr(off, clip)[1].item() == pytest.approx(20.0, abs=1e-4)
    assert psnr(off, clip)[0] > 100


def test_feature_distance_is_the_mean_over_frames() -> None:
    a, b = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert feature_distance(a, b).tolist() == [3.0]


def test_gradient_energy_sees_edges_and_not_brightness() -> None:
    clip = torch.zeros(2, 3, 1, 4, 4)
    clip[0] = 0.7
    clip[1, ..., 2:] = 1.0  # one step of 1 in 3 neighbours across, none down
    assert gradient_energy(clip).tolist() == pytest.approx([0.0, 1 / 3])


def test_frechet_distance_of_gaussians() -> None:
    """|m1 - m2|² + Σ (s1 - s2)² where the covariances are diagonal; moved to have exactly these moments."""
    unit = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    unit = unit - unit.mean(0)
    unit = unit @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(unit.T))).T
    one, other = unit * torch.tensor([1.0, 2.0]), unit[:120] - unit[:120].mean(0)
    other = other @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(other.T))).T * 3 + torch.tensor([5.0, 0.0])
    assert frechet_distance(one, other) == pytest.approx(25 + (3 - 1) ** 2 + (3 - 2) ** 2, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_consistency_is_the_mean_cosine_of_neighbours() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])  # 90°, then 45°
    assert consistency(features).item() == pytest.approx((0 + 0.5**0.5) / 2)


def test_seams_are_changes_at_borders_over_changes_elsewhere() -> None:
    levels = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.6])  # frame 3 jumps
    clip = levels.view(1, 1, 5, 1, 1).expand(1, 3, 5, 2, 2)
    assert seam_ratio(clip, [3]).item() == pytest.approx(3.0, rel=1e-5)
    assert seam_ratio(clip, [1]).item() == pytest.approx(0.1 / (0.5 / 3), rel=1e-5)


def test_flicker_is_the_median_change_of_the_background() -> None:
    clip = torch.zeros(1, 3, 3, 1, 4)
    clip[:, :, 1] += 2 / 127.5  # by 2 steps, and back
    clip[..., 0] += torch.tensor([0.0, 1.0, -1.0])[None, None, :, None]  # a subject, which moves
    background = torch.ones(1, 1, 3, 1, 4, dtype=torch.bool)
    background[..., 0] = False
    assert flicker(clip, background).item() == pytest.approx(2.0, abs=1e-4)
    assert torch.isnan(flicker(clip, ~torch.ones_like(background)))
    large = torch.zeros(1, 3, 29, 640, 1152)
    large[:, :, 1::2] = 2 / 255
    assert flicker(large, torch.ones(1, 1, 29, 640, 1152, dtype=torch.bool)).item() == pytest.approx(1.0, abs=1e-4)


def test_cases_are_held_out_and_always_the_same() -> None:
    first, second = list(storybook.cases(6)), list(storybook.cases(6))
    assert first == second
    assert all(is_heldout(case.scene.labels) for case in first)
    assert len({case.caption.text for case in first}) == 6


@pytest.fixture
def judges(tmp_path: Path) -> Path:
    """Untrained judges in the sizes of the tiny models."""
    torch.manual_seed(0)
    values = {k: len(v) for k, v in ATTRIBUTES.items()}
    small = {"channels": (8, 8), "features": 16}
    Judge(values, height=8, width=16, frames=3, **small).save_pretrained(tmp_path / "judge")
    still = {k: n for k, n in values.items() if k not in ("motion", "camera")}
    Judge(still, moving=(), height=32, width=64, frames=2, **small).save_pretrained(tmp_path / "judge_detail")
    return tmp_path


@pytest.fixture
def bench(tiny: Preset, tiny_weights: Weights, judges: Path) -> storybook.Bench:
    return storybook.Bench(tiny, tiny_weights, judges)


def test_attributes_of_keyframes_count_only_what_the_caption_names(bench: storybook.Bench) -> None:
    figures = storybook.keyframes(bench, 4)
    named = [case.caption.named for case in storybook.cases(4)]
    for name, share in figures["attributes"].items():
        assert share["of"] == sum(name in attributes for attributes in named)
        assert figures["judge_on_renders"][name]["of"] == 4


def test_a_perfect_stage_scores_as_truth(bench: storybook.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the true clip as the result, distances are zero and all energy is there; the linear blend is worse."""

    def truth(self: storybook.Bench, case: storybook.Case, stage: str, clip: torch.Tensor | None = None):
        times = self.times[:: self.spacing] if stage == "keyframes" else self.times
        return storybook.render(case.scene, times, *self.size(stage))

    monkeypatch.setattr(storybook.Bench, "run", truth)
    of_whole = storybook.translation(bench, 2)
    for figures in (storybook.superres(bench, 2), of_whole["of_superres"], of_whole["of_renders"]):
        assert figures["distance"] == 0 and figures["energy"] == 1 and figures["distance_ratio"]["mean"] == 0
        assert figures["bilinear_distance"] > 0 and figures["bilinear_psnr_db"] < figures["psnr_db"]
        assert figures["fid"] == pytest.approx(0, abs=1e-4) and figures["bilinear_fid"] > 1e-3
    assert storybook.interpolation(bench, 2)["gain_db"]["mean"] > 0
    shown = storybook.keyframes(bench, 8)
    for name, share in shown["attributes"].items():
        if share["of"] == 8:  # named by all captions, so judged on the same clips
            assert share == shown["judge_on_renders"][name]


def test_the_stages_themselves_are_measured(bench: storybook.Bench) -> None:
    """Random models enlarge badly, but their whole clips come back in the sizes of the truth."""
    seen: list[tuple[int, int]] = []
    bench.report = lambda done, of: seen.append((done, of))
    assert storybook.interpolation(bench, 2)["psnr_db"] < 40
    assert storybook.superres(bench, 1)["distance"] > 0
    whole = storybook.translation(bench, 1)
    assert whole["of_superres"]["distance_ratio"]["low"] is None
    assert whole["of_superres"]["bilinear_distance"] != whole["of_renders"]["bilinear_distance"] > 0
    alone = whole["autoencoder_alone"]  # of the same clips, without the expert
    assert alone["bilinear_distance"] == whole["of_superres"]["bilinear_distance"]
    assert alone["distance"] != whole["of_superres"]["distance"]
    assert seen == [(1, 2), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]


def test_whole_videos_are_measured(bench: storybook.Bench) -> None:
    figures = whole.video(bench, 6)
    named = Counter(name for case in storybook.cases(6) for name in case.caption.named)
    assert {name: share["of"] for name, share in figures["attributes"].items()} == named
    assert sum(figures["words"][kind]["of"] for kind in ("first", "others")) == named.total() - named["camera"]
    assert "pattern" not in figures["lost_points"] and "subject" in figures["lost_points"]
    assert set(figures["seconds"]) == {*STAGES, "all"} and figures["peak_memory_gb"] > 0
    assert -1 <= figures["clipsim"]["mean"] <= 1 and figures["energy"]["mean"] > 0
    assert figures["fid"]["low"] < figures["fid"]["value"] < figures["fid"]["high"] and figures["fvd"]["value"] > 0
    assert {name: share["of"] for name, share in figures["judge_on_renders"].items()} == dict.fromkeys(named, 6)
    still = {"subject", "colour", "pattern", "setting"}
    left = {name: 6 - named[name] for name in still if named[name] < 6}
    assert left and {name: share["of"] for name, share in figures["steady"].items()} == left
    assert {name: share["of"] for name, share in figures["steady_on_renders"].items()} == dict.fromkeys(left, 6)
    assert figures["true_consistency"]["mean"] > figures["consistency"]["mean"]  # random models flicker, renders do not
    json.dumps(figures, allow_nan=False)


def test_an_evaluation_goes_on_where_it_was_broken_off(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store = StageCache(tmp_path / "cache")
    first = whole.video(bench, 2)
    monkeypatch.setattr(Weights, "borrow", None)  # no model is needed again
    again = whole.video(bench, 2)
    assert again == first and first["peak_memory_gb"] > 0  # what it once took


def test_cases_of_the_train_split_are_not_held_out(bench: storybook.Bench) -> None:
    bench.split = "train"
    assert not any(is_heldout(case.scene.labels) for case in bench.cases(8))


def test_what_is_lost_on_the_way_is_counted_caption_by_caption(
    bench: storybook.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyframes that are all right, and final videos that show nothing of it."""
    right = {case.index: case.scene.labels for case in storybook.cases(3)}
    seen: list[int] = []

    def verdict(judge: Judge, clip: torch.Tensor) -> dict[str, str]:
        seen.append(clip.shape[-1])
        labels = right[(len(seen) - 1) // 5]  # of the keyframes, the video and its render
        small = clip.shape[-1] == bench.preset.keyframes.width
        return dict(labels) if small else dict.fromkeys(labels, "nothing")

    monkeypatch.setattr("mpl.evaluation.whole.verdict", verdict)
    figures = whole.video(bench, 3)
    assert all(share["right"] == 0 for share in figures["attributes"].values())
    assert all(lost["value"] == 100.0 and 0 < lost["low"] < 100 for lost in figures["lost_points"].values())


def test_large_videos_are_judged_at_their_size_and_losses_by_one_judge(
    bench: storybook.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge of detail sees nothing right, and the judge of clips, to which all is small, everything."""
    right = {case.index: case.scene.labels for case in storybook.cases(2)}
    seen: list[Judge] = []

    def verdict(judge: Judge, clip: torch.Tensor) -> dict[str, str]:
        seen.append(judge)
        labels = right[(len(seen) - 1) // 5]
        known = {k: labels[k] for k in judge.config.attributes}
        return known if "motion" in known else dict.fromkeys(known, "nothing")

    monkeypatch.setattr("mpl.evaluation.whole.verdict", verdict)
    figures = whole.video(bench, 2)
    moving = {"motion", "camera"}
    assert {k for k, share in figures["attributes"].items() if share["right"]} == moving & set(figures["attributes"])
    assert all(lost["value"] == 0 for lost in figures["lost_points"].values())


def test_what_is_steady_is_the_same_in_every_frame() -> None:
    red, blue = [2.0, 1.0], [0.0, 1.0]
    logits = {"colour": torch.tensor([[red, red, blue]]), "setting": torch.tensor([[blue, blue, blue]])}
    assert steadiness(logits) == {"colour": False, "setting": True}


def test_rights_are_counted_by_the_words_that_name_them() -> None:
    rights = [{"colour": True, "camera": False}, {"colour": False}, {"colour": True, "motion": True}]
    found = shares.of_words(rights, [frozenset({"colour"}), frozenset({"colour"}), frozenset({"motion"})])
    assert (found["first"]["right"], found["first"]["of"]) == (2, 3)
    assert (found["others"]["right"], found["others"]["of"]) == (1, 1)
    assert found["points_behind"]["mean"] == -50.0  # of colours; motion is said in one kind of words alone
    assert shares.of_words(rights[:1], [frozenset({"colour"})])["points_behind"]["mean"] is None


def test_a_hard_attribute_often_said_in_other_words_is_not_the_words_fault() -> None:
    """Motions are right half of the time and colours always, in whatever words; motions have more synonyms."""
    rights = [{"colour": True}] * 100 + [{"motion": i % 2 == 0} for i in range(100)]
    firsts = [frozenset({"colour"} if i % 10 else ()) for i in range(100)]
    firsts += [frozenset({"motion"} if i % 10 in (0, 1) else ()) for i in range(100)]
    found = shares.of_words(rights, firsts)
    assert found["first"]["share"] - found["others"]["share"] > 0.3
    behind = found["points_behind"]
    # By hand, of shares with one more right and one more wrong: 90 and 10 colours, all right; 20 and 80 motions, half.
    weights = 90 * 10 / 100, 20 * 80 / 100
    variances = 91 / 92**3 + 11 / 12**3, 0.25 / 22 + 0.25 / 82
    half = 196 * sum(w * w * v for w, v in zip(weights, variances, strict=True)) ** 0.5 / sum(weights)
    assert behind["mean"] == 0.0 and behind["high"] == pytest.approx(half, abs=0.01) == -behind["low"]


def test_a_failing_run_names_the_case(bench: storybook.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.events import Failed

    monkeypatch.setattr(storybook, "generate", lambda *a, **k: iter([Failed("out of disk")]))
    with pytest.raises(RunFailed, match="case 0: out of disk"):
        storybook.keyframes(bench, 1)


def test_no_judge_is_said_with_what_to_do(bench: storybook.Bench, tmp_path: Path) -> None:
    bench.judges = tmp_path / "none"
    with pytest.raises(ValueError, match="no judge there; train one"):
        storybook.keyframes(bench, 1)


def test_what_any_part_lacks_is_said_before_the_first_begins(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in storybook.PARTS:
        monkeypatch.setattr(
            whole if part == "video" else storybook, part, lambda bench, count, *sheet: pytest.fail("work began")
        )
    (bench.judges / "judge_detail" / "config.json").unlink()
    monkeypatch.setattr("mpl.config.load_preset", lambda name: bench.preset)
    with pytest.raises(ValueError, match=r"judge_detail: no judge there; train one with .python -m mpl train judge_"):
        command.run(asked("storybook", "--n", "1", "--judges", str(bench.judges), "--out", str(tmp_path / "out")))
    bench.check(["keyframes", "interpolation"])
    with pytest.raises(ValueError, match="judge_detail"):
        bench.check(["superres"])


def test_results_are_kept_with_what_they_were_measured_by(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpl.config.load_preset", lambda name: bench.preset)
    words = ["--part", "keyframes", "--n", "2", "--judges", str(bench.judges), "--out", str(tmp_path / "out")]
    found = command.run(asked("storybook", *words))
    assert found == json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["command"].startswith("python -m mpl evaluate storybook --count 2 --part keyframes --judges")
    assert (
        found["split"] == "heldout" and "torch" in found["versions"] and "setting" in found["keyframes"]["attributes"]
    )


def test_parts_of_the_work_meet_in_the_cache(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever measures at the end makes nothing again, and finds what a single process finds."""
    monkeypatch.setattr("mpl.config.load_preset", lambda name: bench.preset)
    common = ["--part", "video", "--n", "3", "--judges", str(bench.judges)]
    alone = command.run(asked("storybook", *common, "--out", str(tmp_path / "alone")))
    cached = [*common, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    for part in ("1/4", "2/4", "3/4", "4/4"):
        said = command.run(asked("storybook", *cached, "--shard", part))
        assert said["shard"] == part and not (tmp_path / "out" / "result.json").exists()
    kept = len(list((tmp_path / "cache").iterdir()))
    found = command.run(asked("storybook", *cached))
    assert len(list((tmp_path / "cache").iterdir())) == kept
    for figure in ("attributes", "fvd", "fid", "energy"):
        assert found["video"][figure] == alone["video"][figure]
    with Image.open(tmp_path / "out" / found["sheet"]) as sheet:
        assert sheet.height > sheet.width // 2
    assert set(found["revisions"]) >= {"keyframes", "vae", "judge", "judge_detail"}


def test_comparisons_of_learned_combinations_lie_apart_and_say_so(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = []

    def measure(comparison: ablations.Comparison, bench: storybook.Bench, count: int, folder: Path) -> dict[str, Any]:
        scenes.extend(case.scene for case in bench.cases(count))
        return {"name": comparison.name, "arms": {}, "differences": {}}

    monkeypatch.setattr("mpl.config.load_preset", lambda name: bench.preset)
    monkeypatch.setattr("mpl.evaluation.ablations.measure", measure)
    words = ["--only", "windows", "--n", "2", "--judges", str(bench.judges), "--out", str(tmp_path)]
    for split in ("heldout", "train"):
        [found] = command.run(asked("ablations", *words, "--split", split))["comparisons"]
        [result] = tmp_path.glob(f"windows-n2-{split}-judges-*/result.json")  # those of other judges stay, too
        assert found == json.loads(result.read_text())
        assert found["split"] == split and f"--split {split}" in found["command"]
    assert [is_heldout(scene.labels) for scene in scenes] == [True, True, False, False]


def test_a_small_run_leaves_room_for_what_is_in_the_cache(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpl.config.load_preset", lambda name: bench.preset)
    monkeypatch.setattr(command, "VIDEO_BYTES", 100_000)
    words = ["--part", "keyframes", "--judges", str(bench.judges), "--cache", str(tmp_path / "cache")]
    for count, name in (("12", "many"), ("1", "few"), ("1", "again")):
        command.run(asked("storybook", *words, "--n", count, "--out", str(tmp_path / name)))
        if name == "many":
            kept = {path.name for path in (tmp_path / "cache").iterdir()}
            monkeypatch.setattr(command, "VIDEO_BYTES", 1)
    assert kept and {path.name for path in (tmp_path / "cache").iterdir()} >= kept


def test_clips_that_no_judge_knows_are_refused_before_any_work(
    bench: storybook.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpl.config.load_preset", lambda name: override(bench.preset, {"keyframes.frames": 4}))
    with pytest.raises(ValueError, match="keyframes.frames = 4: the judge in .* was made for 3"):
        command.run(asked("storybook", "--judges", str(bench.judges), "--out", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_few_captions_that_are_all_right_leave_room_for_doubt() -> None:
    behind = shares._points_behind([([True] * 10, [True] * 2)])
    assert behind["mean"] == 0 and behind["low"] < -20 and behind["high"] > 20
