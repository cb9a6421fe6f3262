"""The captions that an evaluation asks, in other styles than the protocol's."""

from __future__ import annotations

from mpl.evaluation import storybook
from mpl.storybook.captions import tokens


def test_cases_are_asked_in_everyday_words_of_the_same_scenes() -> None:
    plain, spoken = [*storybook.cases(16)], [*storybook.cases(16, style="spoken")]
    assert [case.scene for case in spoken] == [case.scene for case in plain]
    assert [case.caption.named for case in spoken] == [case.caption.named for case in plain]
    assert sum(tokens(a.caption.text) != tokens(b.caption.text) for a, b in zip(plain, spoken, strict=True)) > 8
    assert [*storybook.cases(16, style="spoken")] == spoken
    short = [case.caption.named for case in storybook.cases(16, style="short")]
    assert max(map(len, short)) <= 4
