"""Known answers of the published metrics, and what their networks are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_toys import CLASSES, ToyC3D, ToyInception, script
from torch import Tensor, nn

from mpl.evaluation.extractors import C3D, I3D, TGAN2_SIDE, Inception, c3d
from mpl.evaluation.protocols import VideoOptions
from mpl.evaluation.samples import alike, as_clip, frame_places, resize
from mpl.evaluation.scores import FrechetDistance, InceptionScore

CPU = torch.device("cpu")
AS_IS = VideoOptions("first", "none", 0, 0, True, "")


# ---- distances


class Identity(nn.Module):
    """Features that were drawn beforehand, in place of a network's."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: Tensor) -> Tensor:
        return x


def whitened(count: int, width: int, seed: int) -> Tensor:
    """Samples (count, width) whose mean is 0 and whose unbiased covariance is the identity, to rounding."""
    x = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()).mT, x, upper=True, left=False)


def frechet(real: Tensor, made: Tensor, batch: int = 7) -> float:
    score = FrechetDistance(Identity(real.shape[1]), CPU, batch)
    for x in made:
        score.add(x)
    for x in real:
        score.add(x, real=True)
    return score.value()


def test_frechet_distance_of_two_gaussians() -> None:
    """Closed form for covariances that commute: |m|² + Σ (σ - τ)²; here 0.25 + 1 + 0.09 and 1 + 4 + 0."""
    mean, sigma, tau = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, -1.0, 0.3], [1.0, 3.0, 2.0], [2, 1, 2.0]))
    real, made = whitened(40, 3, 0) * sigma, whitened(60, 3, 1) * tau + mean
    assert frechet(real, made) == pytest.approx(1.34 + 5.0, abs=1e-9)


def test_frechet_distance_of_gaussians_that_do_not_commute() -> None:
    """In two dimensions tr √(AB) is √(tr AB + 2 √det AB)."""
    a, b = (torch.tensor(v, dtype=torch.float64) for v in ([[2.0, 0.0], [1.0, 1.0]], [[1.0, 0.5], [0.0, 3.0]]))
    real, made = whitened(30, 2, 2) @ a.T, whitened(50, 2, 3) @ b.T
    first, second = a @ a.T, b @ b.T
    product = first @ second
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    assert frechet(real, made) == pytest.approx((first.trace() + second.trace() - 2 * root).item(), abs=1e-9)


def test_covariances_are_unbiased_and_batches_change_nothing() -> None:
    """-1 and 1 have the variance 2, not 1: against variance 0 the distance is 2."""
    real, made = torch.tensor([[-1.0], [1.0]]).double(), torch.zeros(2, 1).double()
    assert frechet(real, made) == pytest.approx(2.0, abs=1e-12)
    x, y = torch.randn(10, 4).double(), torch.randn(9, 4).double() + 1
    assert frechet(x, y, 1) == pytest.approx(frechet(x, y, 100), abs=1e-9)


def test_every_frame_can_be_a_sample() -> None:
    """Two videos of two frames are four samples: -1, 1, -1, 1 have the variance 4/3."""

    class Brightness(Identity):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1:] == (3, 2, 2)
            return x.double().mean((1, 2, 3))[:, None]

    score = FrechetDistance(Brightness(1), CPU, 2, each_frame=True)
    clip = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1).expand(3, 2, 2, 2)
    for _ in range(2):
        score.add(clip, real=True)
        score.add(torch.zeros_like(clip))
    assert score.value() == pytest.approx(4 / 3, abs=1e-9)


def inception_score(probabilities: Tensor, splits: int = 1) -> tuple[float, float | None, int]:
    score = InceptionScore(nn.Identity(), CPU, 3, splits, 0)
    for p in probabilities.double().clamp(min=1e-12).log():
        score.add(p)
    return score.value()


def test_inception_score_of_a_uniform_and_of_a_one_hot_classifier() -> None:
    assert inception_score(torch.full((12, 4), 0.25)) == (pytest.approx(1.0, abs=1e-6), None, 1)
    assert inception_score(torch.eye(4).repeat(3, 1)) == (pytest.approx(4.0, abs=1e-6), None, 1)
    always_one = torch.eye(4)[[2] * 8]
    assert inception_score(always_one, 2) == (pytest.approx(1.0, abs=1e-6), pytest.approx(0.0, abs=1e-6), 2)


def test_inception_score_by_hand_and_its_splits() -> None:
    """Of (0.9, 0.1) and (0.1, 0.9): each is at ln 2 - H(0.1) from their mean."""
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert inception_score(p)[0] == pytest.approx(2 * np.exp(-entropy), abs=1e-6)
    assert inception_score(p.repeat(5, 1), 4)[2] == 4  # of 3, 3, 3 and 1
    assert inception_score(p.repeat(3, 1), 5)[2] == 3  # of 2 each
    state = torch.get_rng_state()
    assert inception_score(p.repeat(5, 1), 4) == inception_score(p.repeat(5, 1), 4)
    assert torch.equal(state, torch.get_rng_state())


# ---- samples


def test_frames_are_those_nearest_in_time() -> None:
    assert frame_places(29, 8, 16, 8, "first") == list(range(16))
    assert frame_places(29, 8, 16, 8, "middle") == list(range(6, 22))
    assert frame_places(48, 25, 16, 8, "first") == [0, 3, 6, 9, 13, 16, 19, 22, 25, 28, 31, 34, 38, 41, 44, 47]
    assert frame_places(31, 29.97, 16, 15, "first") == list(range(0, 31, 2))
    assert frame_places(8, 2, 2, 1, "first") == [0, 2]


def test_a_random_start_is_seeded_and_stays_inside() -> None:
    found = {tuple(frame_places(20, 8, 16, 8, "random", str(seed))) for seed in range(50)}
    assert {places[0] for places in found} == set(range(5))
    assert all(places[-1] < 20 for places in found)
    assert frame_places(20, 8, 16, 8, "random", "a") == frame_places(20, 8, 16, 8, "random", "a")


@pytest.mark.parametrize(("count", "rate"), [(15, 8), (47, 25), (8, 2)])
def test_too_short_and_too_slow_videos_are_refused(count: int, rate: float) -> None:
    with pytest.raises(ValueError, match=f"{count} frames at {rate} per second"):
        frame_places(count, rate, 16, 8, "first")


def test_the_middle_square_is_cut_and_resized() -> None:
    frames = np.zeros((2, 16, 48, 3), np.uint8)
    frames[:, :, 16:32] = (10, 200, 90)
    for size in (16, 8, 40):
        cut = alike(frames, replace(AS_IS, crop="square", height=size, width=size))
        assert cut.shape == (2, size, size, 3) and cut.dtype == np.uint8
        assert (cut == (10, 200, 90)).all()
    stretched = alike(frames, replace(AS_IS, height=16, width=24))
    assert stretched.shape == (2, 16, 24, 3) and (stretched[:, :, 11:13] == (10, 200, 90)).all()
    assert alike(frames, AS_IS) is frames
    assert np.array_equal(alike(frames, replace(AS_IS, height=16, width=48)), frames)


def test_clips_keep_their_axes() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), np.uint8)
    clip = as_clip(frames)
    assert clip.shape == (3, 5, 6, 8) and clip[2, 3, 4, 5] == frames[3, 4, 5, 2]
    resized = resize(clip[None], 4, "bilinear")
    assert resized.shape == (1, 3, 5, 4, 4)
    one = nn.functional.interpolate(clip[:, 3][None].float(), (4, 4), mode="bilinear", align_corners=False)
    assert torch.equal(resized[0, :, 3], one[0])


# ---- networks


def test_i3d_is_shown_what_tats_shows_it(tmp_path: Path) -> None:
    i3d = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed")
    torch.manual_seed(0)
    network = i3d.InceptionI3d(400, in_channels=3).eval()
    torch.save(network.state_dict(), tmp_path / "i3d.pt")
    clip = torch.randint(0, 256, (1, 3, 9, 20, 30), dtype=torch.uint8)
    frames = nn.functional.interpolate(clip[0].transpose(0, 1).float(), (224, 224), mode="bilinear")
    with torch.no_grad():
        wanted = network((2 * frames / 255 - 1).transpose(0, 1)[None])
        found = I3D(tmp_path / "i3d.pt")(clip)
    assert found.shape == (1, 400) and found.dtype == torch.float64
    assert torch.allclose(found.float(), wanted, atol=1e-5)


def test_a_file_that_is_no_i3d_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("other.pt", "text.pt"):
        with pytest.raises(ValueError, match=f"{name}: holds no weights of the I3D"):
            I3D(tmp_path / name)


def test_c3d_gives_logarithms_of_its_probabilities(tmp_path: Path) -> None:
    network = ToyC3D()
    found = C3D(script(network, tmp_path / "c3d.pt"), CLASSES)
    clips = torch.randint(0, 256, (2, 3, 16, 30, 40), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(found(clips).exp().float(), network(clips), atol=1e-6)


def test_tgan2_pictures_are_bgr_less_the_mean_and_cut(tmp_path: Path) -> None:
    """A network that hands back one pixel's colours as probabilities shows what it is given."""

    class Pixel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert list(x.shape[1:]) == [3, 16, 112, 112]
            return x[:, :, 0, 0, 0].softmax(1)

    mean = np.zeros((3, 16, 128, 171), np.float32)
    mean[0, 0, 8, 21 + 8] = 3.0  # of blue, at the pixel that is the first after both cuts
    np.savez(tmp_path / "mean2.npz", mean=mean.reshape(1, 3, 16, 128, 171))
    files = {"c.pt": script(Pixel(), tmp_path / "c.pt"), "mean2.npz": tmp_path / "mean2.npz"}
    clip = torch.zeros(1, 3, 16, 60, 80, dtype=torch.uint8)
    clip[:, 0], clip[:, 1], clip[:, 2] = 1, 2, 5
    wanted = torch.tensor([5.0 - 3.0, 2.0, 1.0]).softmax(0)
    assert torch.allclose(c3d(files, 3)(clip)[0].exp().float(), wanted, atol=1e-5)
    assert TGAN2_SIDE == 128


def test_a_classifier_must_give_probabilities(tmp_path: Path) -> None:
    class Logits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean([2, 3, 4]) - 1

    with pytest.raises(ValueError, match="does not give probabilities of 3 classes"):
        C3D(script(Logits(), tmp_path / "c3d.pt"), 3)
    with pytest.raises(ValueError, match="does not give probabilities of 7 classes"):
        C3D(script(ToyC3D(), tmp_path / "toy.pt"), 7)


def test_inception_gives_features_and_says_how_many(tmp_path: Path) -> None:
    network = ToyInception()
    found = Inception(script(network, tmp_path / "inception.pt"))
    pictures = torch.randint(0, 256, (5, 3, 20, 30), dtype=torch.uint8)
    assert found.num_features == 8
    with torch.no_grad():
        assert torch.equal(found(pictures), network(pictures, True).double())


def test_what_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c3d.pt").write_text("no network")
    with pytest.raises(ValueError, match=r"c3d\.pt: is no TorchScript"):
        C3D(tmp_path / "c3d.pt", CLASSES)
    with pytest.raises(ValueError, match="does not take pictures as it should"):
        Inception(script(ToyC3D(), tmp_path / "other.pt"))
