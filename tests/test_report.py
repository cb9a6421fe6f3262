"""The report: every figure with its source, none without; HTML that stands alone, Markdown that fits."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_toys as toys
from test_imports import loaded_by

from mpl.__main__ import main
from mpl.evaluation.report.build import _told, build
from mpl.evaluation.report.document import Report, Table
from mpl.evaluation.report.figures import Figure, count_text, interval_text, number, read_figures, title_of, value_text
from mpl.evaluation.report.markdown import markdown
from mpl.evaluation.report.page import page
from mpl.evaluation.report.paper import load_paper_tables
from mpl.evaluation.report.reading import read_results
from mpl.evaluation.report.storybook import Required, load_required, verdicts
from mpl.evaluation.sheets import draw

VOID = {"meta", "link", "img", "wbr"}


def report(folder: Path, *results: dict[str, Any]) -> Report:
    for i, result in enumerate(results, 1):
        toys.write(folder / f"result{i}", result)
    return build(read_results([folder]))


def everything(folder: Path) -> Report:
    """Sources R1 to R4."""
    return report(folder, toys.storybook(), toys.ablation(), toys.published(), toys.published("prompts120"))


def sentences(of: Report) -> str:
    """All paragraphs of all sections."""
    return " ".join(text for _, section in of.everything() for text in section.paragraphs)


def rows(of: Report, title: str, section: str = "") -> dict[str, list[str]]:
    """Rows of the first table of a title, as `text [source] (note)`, by the text of their first cell."""
    tables = [x for _, s in of.everything() for x in s.items if isinstance(x, Table) if section in s.title]
    table = next(table for table in tables if table.title == title)
    found: dict[str, list[str]] = {}
    for row in table.rows:
        assert len(row.cells) == len(table.columns)
        told = [
            c.text + (f" [{c.source}]" if c.source else "") + (f" ({c.note})" if c.note else "") for c in row.cells[1:]
        ]
        found[row.cells[0].text] = [x.replace("\N{NO-BREAK SPACE}", " ") for x in told]
    return found


# ---- figures


def test_figures_of_every_kind_are_read_and_said() -> None:
    found = read_figures(
        {
            "attributes": {"colour": {"right": 106, "of": 109, "share": 0.9725, "low": 0.9, "high": 1.0}},
            "gain_db": {"mean": 0.8123, "low": 0.5, "high": 1.1},
            "flicker": {"median": None, "videos": 0},
            "fid": -12345.6,
        },
        "part",
    )
    said = [(title_of(k), value_text(x), interval_text(x), count_text(x)) for k, x in found.items()]
    assert [tuple(x.replace("\N{NO-BREAK SPACE}", " ") for x in row) for row in said] == [
        ("colour right", "97.2 %", "90.0 to 100 %", "106 of 109"),
        ("gain over linear blending, dB", "0.81", "0.50 to 1.10", ""),
        ("flicker, 1/255", "not measured", "", "n = 0"),
        ("FID, judge's features", "−12,346", "", ""),
    ]
    assert [number(x) for x in (0, 0.00012, 0.3076, 1294, 8.86e-11)] == ["0", "1.2e-04", "0.3076", "1294", "8.9e-11"]
    assert value_text(Figure(1.0, 0.5, 1.5), signed=True) == "+1.0" and not Figure(1.0, 0.0, 2.0).excludes_zero


# ---- the paper


def test_the_papers_tables_are_whole() -> None:
    tables = {table.number: table for table in load_paper_tables()}
    assert set(tables) == {1, 2, 4}
    for table in tables.values():
        for row in table.rows:
            assert (len(row.label), len(row.values)) == (len(table.labels), len(table.columns))
    ours = [tables[number].rows[-1].values for number in (1, 2)]
    assert ours == [("35.42", "394.46"), ("13.08", "538", "0.3076")]


def test_the_projects_rows_stand_under_the_papers(tmp_path: Path) -> None:
    made = everything(tmp_path)
    table1 = rows(made, "The paper and this project", "Table 1")
    assert table1["MagicVideo (Zhou et al., 2022)"] == ["– [P1]", "655.00 [P1]"]
    assert table1["this project"] == ["not run (no result of python -m mpl evaluate ucf101 among those read)"] * 2
    table2 = rows(made, "The paper and this project", "Table 2")
    assert table2["MPL-Video (ours)"] == ["13.08 [P2]", "538 [P2]", "0.3076 [P2]"]
    assert table2["this project, show1"] == [
        "not run [R3] (fid_vid needs --real DIR)",
        "612.35 [R3] (2,048 videos, 2 withheld by the safety checker, against 2,048 real ones)",
        "0.2877 [R3] (95 %: 0.2861 to 0.2892, 500 of the protocol's 59,794 videos)",
    ]
    assert rows(made, "Figures of prompts120")["FVD"][0].startswith("612.3 [R4]")


def test_table_4_stands_beside_the_ablation_only_where_there_is_one(tmp_path: Path) -> None:
    with_it = [section.title for _, section in report(tmp_path / "a", toys.ablation()).everything()]
    without = [section.title for _, section in report(tmp_path / "b", toys.ablation("figure6")).everything()]
    assert any("Table 4" in title for title in with_it) and not any("Table 4" in title for title in without)
    made = report(tmp_path / "a")
    (table,) = (x for _, s in made.everything() if "Table 4" in s.title for x in s.items if isinstance(x, Table))
    own = [row for row in table.rows if row.own]
    assert [row.cells[2].text for row in own] == ["0.2512", "not run", "0.2712", "0.2812"]
    assert own[1].cells[2].note == "weights.upsampling: assets/ablations/upsampling is not there"
    assert {row.cells[5].text for row in own} == {"not run"}


# ---- the storybook and the ablations


def test_every_figure_of_the_storybook_is_there_with_its_source(tmp_path: Path) -> None:
    made = report(tmp_path, toys.storybook())
    assert rows(made, "Keyframes")["colour right"] == ["100 % [R1]", "94.3 to 100 %", "64 of 64"]
    assert rows(made, "Interpolation")["gain over linear blending, dB"] == ["0.81 [R1]", "0.51 to 1.11", ""]
    assert "of superres: FID over bilinear's" in rows(made, "Translation")
    video = rows(made, "Video")
    assert rows(made, "What was chosen, what judges look at, and what figures are")["fvd"] == [
        "Fréchet distance to renders"
    ]
    assert video["peak memory, GB"][0] == "1.14 [R1]" and video["seconds, all"][0] == "20.7 [R1]"


def test_required_figures_are_met_not_met_or_not_measured(tmp_path: Path) -> None:
    made = toys.storybook("superres", "video") | {"n": 256}
    made["video"]["attributes"] = toys.shares(60, 64, 52, 63, 20, 50)
    told = rows(report(tmp_path, made), "Required and measured, on held-out captions")
    assert told["video: colour"][:2] == ["at least 95 %; aim 98 %", "100 % [R1] (95 %: 94.3 to 100 %)"]
    assert told["video: colour"][2] == "met (the interval reaches across the bound)"
    of_fewer = rows(report(tmp_path, made | {"n": 64}), "Required and measured, on held-out captions")
    assert of_fewer["video: colour"][2] == "met (the interval reaches across the bound; of fewer captions than 256)"
    assert told["video: colour"][3].startswith("preset storybook")
    of_another = rows(
        report(tmp_path, made | {"changed": ["keyframes.steps=2"]}), "Required and measured, on held-out captions"
    )
    assert of_another["video: colour"][1] == "not measured"  # the requirements are for the default as it is
    assert told["video: motion"][2].startswith("not met")
    assert told["superres: FID over that of bilinear enlargement"][2] == "met"
    assert told["interpolation: gain over linear blending, dB"][:3] == ["at least 3", "not measured", "not measured"]
    for name, changes in (("learned", {"split": "train"}), ("said", {"style": "spoken"})):
        other = rows(report(tmp_path / name, toys.storybook() | changes), "Required and measured, on held-out captions")
        assert {row[2] for row in other.values()} == {"not measured"}


def test_the_headline_counts_verdicts_with_a_reservation_apart(tmp_path: Path) -> None:
    of = [Required(name, f"video.{name}", at_least=bound) for name, bound in (("clipsim", 0.1), ("energy", 0.9))]
    of += [Required("fvd", "video.fvd", at_most=1), Required("keyframes", "keyframes.energy", at_least=1)]
    made = toys.storybook("video")

    def told(count: int) -> str:
        toys.write(tmp_path, made | {"n": count})
        return _told(verdicts(of, read_results([tmp_path])))

    assert told(256) == "1 met, 1 met with a reservation, 1 not met, 1 not measured"
    assert told(2) == "2 met with a reservation, 1 not met with a reservation, 1 not measured"
    assert "Of the required figures: " in report(tmp_path, made).paragraphs[0]


def test_what_is_required_is_what_evaluation_says(tmp_path: Path) -> None:
    """Every key of the file is one that results have."""
    toys.write(tmp_path, toys.storybook())
    assert all(verdict.figure for verdict in verdicts(load_required(), read_results([tmp_path])))
    both = Required("energy", "video.energy", 0.8, 1.25)
    assert [both.keeps(x) for x in (0.79, 0.8, 1.25, 1.26)] == [False, True, True, False]


def test_arms_and_differences_of_an_ablation(tmp_path: Path) -> None:
    made = report(tmp_path, toys.ablation())
    arms = rows(made, "Arms")
    assert set(arms["latent + pixel"]) == {"not run [R1]"} and arms["pixel + latent"][-1] == "1.14 [R1]"
    differences = rows(made, "Differences")
    assert differences["CLIPSIM"][0] == "▲ +0.0100 [R1] (0.0060 to 0.0140, n = 64)"
    assert differences["FVD, judge's features"][0].startswith("▼ −7.7 [R1]")
    assert differences["FID, judge's features"][0] == "not measured [R1]"
    assert len(differences["colour right, points"]) == 2
    assert "on 64 held-out captions." in sentences(made)
    learned = report(tmp_path / "learned", toys.ablation() | {"split": "train"})
    assert "on 64 captions that were learned." in sentences(learned)


def test_it_reads_what_evaluation_writes(tmp_path: Path) -> None:
    """The real summaries of samples, and the real sheet."""
    import torch
    from test_ablations import sample

    from mpl.evaluation import ablations, results, whole

    a = [sample(right, 1.0 + i, torch.randn(3, 2)) for i, right in enumerate((True, False, False, True))]
    of = {"a": a, "b": [dataclasses.replace(x, right={"colour": True}) for x in a]}
    draw(of, tmp_path / "ablation/sheet.png")
    arms = {name: whole.summary(found) for name, found in of.items()}
    differences = {"b less a": ablations.difference(tuple(of.values()))}
    ablation = toys.ablation("mine", arms=arms, differences=differences) | results.provenance("command")
    results.save(tmp_path / "ablation", ablation)
    results.save(tmp_path / "storybook", toys.storybook() | {"video": arms["a"]} | results.provenance("command"))
    made = build(read_results([tmp_path]))
    assert rows(made, "Arms")["a"][0] == "50.0 % [R1] (15.0 to 85.0 %)"
    assert rows(made, "Differences")["colour right, points"][0].startswith("+50.0 [R1] (")
    assert rows(made, "Video")["colour right"][2] == "2 of 4"
    assert page(made).count("data:image/jpeg") == 1


def test_an_ablation_of_which_no_arm_could_run_has_no_sheet_and_is_said(tmp_path: Path) -> None:
    arms = {"a": {"why": "its weights are missing"}, "b": {"why": "its weights are missing"}}
    toys.write(tmp_path, toys.ablation(arms=arms, differences={}, sheet=None))
    said = page(build(read_results([tmp_path])))
    assert "its weights are missing" in said and "Contact sheet" not in said


def test_a_missing_contact_sheet_is_said(tmp_path: Path) -> None:
    toys.write(tmp_path, toys.ablation())
    (tmp_path / "sheet.png").unlink()
    said = sentences(build(read_results([tmp_path])))
    assert "The contact sheet, sheet.png, is not beside the result." in said


# ---- HTML and Markdown


class Reader(HTMLParser):
    """Checks that elements are closed in turn; collects ids and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_stands_alone(tmp_path: Path) -> None:
    html = page(everything(tmp_path))
    found = read(html)
    assert len(found.ids) == len(set(found.ids)) and found.scripts == 0
    assert all(x.startswith(("#", "data:")) for x in found.references)
    assert {x[1:] for x in found.references if x.startswith("#")} <= set(found.ids)
    assert "@import" not in html and set(re.findall(r"url\(([^)]*)\)", html)) <= {f"#{name}" for name in found.ids}
    assert html.count("data:image/jpeg") == 1 and html.count("<svg") == 4
    html = html.replace("<wbr>", "")
    for text in ("612.35", "0.2877", "35.42", "1.14", "python -m mpl evaluate storybook --count 64", "2 cores, x86_64"):
        assert text in html
    assert not set(re.findall(r"#01020\d", html))  # every colour of a chart is the style sheet's


HOSTILE = "<script>alert(1)</script>|`x`\n# $a$ & *b*"


def test_what_comes_from_results_is_only_text(tmp_path: Path) -> None:
    ablation = toys.ablation("x", title=HOSTILE, about=HOSTILE, stage=HOSTILE)
    ablation["arms"] = {HOSTILE: toys.finished(), "b": {"why": HOSTILE}}
    (told, *_) = ablation["differences"].values()
    ablation["differences"] = {HOSTILE: told | {f"{HOSTILE} (points)": told["colour (points)"]}}
    storybook = toys.storybook() | {"preset": HOSTILE, "changed": [HOSTILE], "machine": HOSTILE}
    storybook["video"]["attributes"][HOSTILE] = storybook["video"]["attributes"]["colour"]
    other = toys.published(HOSTILE, weights={HOSTILE: HOSTILE}, stop_after=HOSTILE)
    made = report(tmp_path, ablation, storybook, other)
    html = page(made)
    found = read(html)
    assert found.scripts == 0 and "<script" not in html and len(found.ids) == len(set(found.ids))
    html.encode()
    text, pictures = markdown(made)
    assert "<script" not in text and not any(b"<script" in content for content in pictures.values())
    check_tables(text)


def check_tables(text: str) -> int:
    """Asserts that each table's rows have as many cells as its head; returns the number of tables."""
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(counts) == 1, table
    return len(tables)


def test_markdown_says_the_same_with_pictures_beside_it(tmp_path: Path) -> None:
    made = everything(tmp_path)
    text, pictures = markdown(made)
    assert check_tables(text) == sum(isinstance(x, Table) for _, s in made.everything() for x in s.items)
    assert set(re.findall(r"\]\(pictures/([^)]+)\)", text)) == set(pictures)
    assert {name.rsplit(".")[-1] for name in pictures} == {"svg", "jpg"}
    assert "612.35 [R3](#sources)" in text and '<a id="sources">' in text


# ---- the command


def test_the_command_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toys.write(tmp_path / "a/deep/table4", toys.ablation())
    toys.write(tmp_path / "b", toys.storybook("keyframes"))
    folders = ["--results", f"{tmp_path}/a", "--results", f"{tmp_path}/b", "--results", f"{tmp_path}/a/deep"]
    out = tmp_path / "out"
    assert main(["report", *folders, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"html": f"{out}/report.html", "markdown": f"{out}/report.md", "results": 2}
    assert {path.name for path in out.rglob("*")} == {
        "report.html",
        "report.md",
        "pictures",
        "attributes-r2.svg",
        "differences-r1.svg",
        "differences-r1-clipsim.svg",
        "differences-r1-fvd.svg",
        "sheet-r1.jpg",
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting property name"),
        ("[1]", "its content: must be a mapping"),
        ('{"kind": "other"}', 'kind = "other": must be storybook, ablation or protocol'),
        ("{}", "kind = None: must be storybook, ablation or protocol"),
        ('{"kind": "storybook", "n": 1, "preset": "x"}', "has none of keyframes, interpolation, superres, translation"),
        ('{"kind": "storybook", "preset": "x", "video": {}}', "n: missing"),
        (
            '{"kind": "storybook", "n": 1, "preset": "x", "video": {"fvd": "low"}}',
            'video.fvd = "low": must be a number',
        ),
        ('{"kind": "storybook", "n": 1, "preset": "x", "video": {"fvd": NaN}}', "NaN is no JSON number"),
        ('{"kind": "storybook", "n": true, "preset": "x", "video": {}}', "n: is true, must be a whole number"),
        (json.dumps(toys.ablation(sheet="../sheet.png")), "sheet = .*must be the name of a file beside it"),
        (json.dumps(toys.ablation(differences={"b less a": {"fvd": {}}})), "differences.b less a.fvd: has none of"),
        (json.dumps(toys.published(figures={"fvd": {"value": 1}})), "figures.fvd.n: missing"),
        ("[" * 100_000, "recursion"),
        ('{"kind": "storybook", "n": 1, "preset": "\\ud800"}', "surrogates not allowed"),
    ],
)
def test_a_broken_or_foreign_result_is_named_and_nothing_is_written(
    content: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toys.write(tmp_path / "results/a", toys.storybook())
    path = tmp_path / "results/b/result.json"
    path.parent.mkdir()
    path.write_text(content)
    assert main(["report", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and re.search(problem, line)
    assert not (tmp_path / "out").exists()


def test_a_broken_contact_sheet_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toys.write(tmp_path, toys.ablation())
    (tmp_path / "sheet.png").write_bytes(b"no picture")
    assert main(["report", "--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path}/sheet.png: no picture that can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_results_there_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", f"{tmp_path}/none", "--out", f"{tmp_path}/out"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/none" in said and "python -m mpl evaluate ablations" in said
    assert not (tmp_path / "out").exists()


def test_its_help_and_bad_input_load_no_heavy_package(tmp_path: Path) -> None:
    code = (
        "from mpl.__main__ import main\n"
        f"assert main(['report', '--help']) == 0 and main(['report', '--results', {str(tmp_path)!r}]) == 2"
    )
    assert not loaded_by(code) & {"torch", "matplotlib", "PIL", "gradio"}
