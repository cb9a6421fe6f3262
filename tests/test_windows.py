"""Plans of spans."""

from __future__ import annotations

import pytest

from mpl.windows import Span, batches, filled_length, gaps, superres_windows


def test_eight_keyframes_make_29_frames_in_seven_gaps():
    plan = gaps(8, 3)
    assert filled_length(8, 3) == 29
    assert [(gap.start, gap.stop) for gap in plan] == [(4 * i, 4 * i + 5) for i in range(7)]
    assert [gap.index for gap in plan] == list(range(7))
    assert gaps(1, 3) == [] and filled_length(1, 3) == 1


@pytest.mark.parametrize("frames", [8, 15, 22, 29, 36])
def test_published_counts_get_the_published_windows(frames):
    plan = superres_windows(frames)
    assert [(w.start, w.stop) for w in plan] == [(s, s + 8) for s in range(0, frames - 7, 7)]


@pytest.mark.parametrize("frames, lengths", [(1, [1]), (7, [7]), (9, [5, 5]), (14, [8, 7]), (16, [6, 6, 6])])
def test_other_counts_get_windows_of_equal_length(frames, lengths):
    assert [len(w) for w in superres_windows(frames)] == lengths


@pytest.mark.parametrize("window, stride", [(8, 7), (8, 4), (2, 1), (5, 2), (29, 28)])
def test_any_count_is_covered_and_neighbours_share_frames(window, stride):
    for frames in range(1, 70):
        plan = superres_windows(frames, window, stride)
        assert plan[0].start == 0 and plan[-1].stop == frames
        assert [w.index for w in plan] == list(range(len(plan)))
        lengths = [len(w) for w in plan]
        assert max(lengths) <= window and max(lengths) - min(lengths) <= 1
        for a, b in zip(plan, plan[1:], strict=False):
            assert a.stop - b.start == window - stride and a.start < b.start and a.stop < b.stop


def test_batches_keep_the_order():
    assert batches([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3], [4]]
    assert batches(gaps(3, 1), 7) == [[Span(0, 0, 3), Span(1, 2, 5)]]


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: superres_windows(0), "frames"),
        (lambda: superres_windows(9, 1, 1), "superres.window"),
        (lambda: superres_windows(9, 8, 8), "superres.stride"),
        (lambda: superres_windows(9, 8, 0), "superres.stride"),
        (lambda: gaps(3, 0), "interpolation.between"),
        (lambda: gaps(0, 3), "keyframes"),
        (lambda: batches([1], 0), "batch size"),
    ],
)
def test_impossible_plans_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call()
