"""The paper's tables, copied into `presets/report/paper.toml`, beside what this project measured by the same names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpl.config import preset_folder
from mpl.evaluation.summary import ZERO

from .document import Cell, Row, Section, Table
from .figures import Figure, interval_text, number, value_text
from .reading import Ablation, Metric, Published, Result

NOT_RUN = "not run"
_METRICS = {"inception_score": "inception score", "fvd": "FVD", "fid_vid": "FID-vid", "clipsim": "CLIPSIM"}
_NO_PARITY = (
    "Rows of the paper are copied from it. Rows of this project are measured by the project's own protocols: the paper "
    "does not state how many frames it took, at which rate, how videos were cut to size, and by which networks, so "
    "that a difference between the two kinds of rows may be one of protocol as well as one of models."
)
_SCALE = (
    "The paper's rows are of models of its size. This project's are of small models that know a procedural world: "
    "CLIPSIM is by this project's own CLIP, FVD in the features of its judge, memory that of the process, where the "
    "judges lie beside the models. The arms may be compared with each other, not with the paper's."
)


@dataclass(frozen=True)
class Column:
    """A column of a table: what it is called, and which of the project's figures belongs into it."""

    name: str
    metric: str = ""  # of a protocol
    figure: str = ""  # of an ablation's arms
    why: str = ""  # there is neither
    decimals: int = 2
    unit: str = ""


@dataclass(frozen=True)
class PaperRow:
    """A row as the paper prints it; `arm` is the one of the ablation that does the same."""

    label: tuple[str, ...]
    values: tuple[str, ...]
    arm: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, and the protocol or ablation whose figures go beside it."""

    number: int
    title: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[PaperRow, ...]
    protocol: str = ""
    ablation: str = ""

    @property
    def source(self) -> str:
        """The key by which cells name it."""
        return f"P{self.number}"


def load_paper_tables() -> tuple[PaperTable, ...]:
    """The tables of `presets/report/paper.toml`."""
    values = tomllib.loads((preset_folder() / "report" / "paper.toml").read_text(encoding="utf-8"))
    return tuple(
        PaperTable(
            **table
            | {
                "labels": tuple(table["labels"]),
                "columns": tuple(Column(**column) for column in table["columns"]),
                "rows": tuple(
                    PaperRow(tuple(row["label"]), tuple(row["values"]), row.get("arm", "")) for row in table["rows"]
                ),
            }
        )
        for table in values["tables"]
    )


def paper_section(tables: Sequence[PaperTable], results: Sequence[Result]) -> Section:
    """Every table with the project's rows under the paper's; that of an ablation only where there is a result of it."""
    sections = []
    for table in tables:
        if table.protocol:
            of = [x for x in results if isinstance(x, Published) and x.name == table.protocol]
            sections.append(_of_protocol(table, of))
        elif of := [x for x in results if isinstance(x, Ablation) and x.name == table.ablation]:
            sections.append(_of_ablation(table, of))
    return Section("paper", "Beside the paper", (_NO_PARITY,), sections=tuple(sections))


def _section(table: PaperTable, own: Sequence[Row], paragraphs: tuple[str, ...], *others: Table) -> Section:
    theirs = tuple(
        Row(
            tuple(map(Cell, row.label))
            + tuple(Cell("–" if value == "-" else value, source=table.source) for value in row.values)
        )
        for row in table.rows
    )
    columns = (*table.labels, *(column.name for column in table.columns))
    about = "–: the paper has no value."
    whole = Table("The paper and this project", columns, (*theirs, *own), about)
    title = f"Table {table.number}: {table.title}"
    return Section(f"paper-table-{table.number}", title, paragraphs, (whole, *others))


def _of_protocol(table: PaperTable, results: Sequence[Published]) -> Section:
    own = [Row((_made_by(x), *(_metric_cell(x, c) for c in table.columns)), own=True) for x in results]
    if not own:
        why = f"no result of python -m mpl evaluate {table.protocol} among those read"
        own = [Row((Cell("this project"), *(Cell(NOT_RUN, why) for _ in table.columns)), own=True)]
    return _section(table, own, (), *(choices_table(x) for x in results))


def _made_by(result: Published) -> Cell:
    notes = [*result.changed, *([f"after {result.stop_after}"] if result.stop_after else [])]
    return Cell(f"this project, {result.preset}", ", ".join(notes))


def _metric_cell(result: Published, column: Column) -> Cell:
    metric = result.metrics.get(column.metric)
    if metric is None:
        return Cell(NOT_RUN, "not part of this protocol", result.origin.key)
    if metric.figure.value is None:
        return Cell(NOT_RUN, metric.why or "the result does not say why", result.origin.key)
    return Cell(value_text(metric.figure, column.decimals), _metric_note(metric, column.decimals), result.origin.key)


def _metric_note(metric: Metric, decimals: int | None = None) -> str:
    """What a metric's value is of: its interval, its spread, how many videos."""
    return ", ".join(_notes(metric, decimals))


def _notes(metric: Metric, decimals: int | None) -> Iterator[str]:
    if interval := interval_text(metric.figure, decimals):
        yield f"95 %: {interval}"
    if metric.deviation is not None:
        yield f"± {number(metric.deviation, decimals)} over {metric.splits} splits"
    yield (
        f"{metric.n:,} of the protocol's {metric.asks:,} videos" if metric.n != metric.asks else f"{metric.n:,} videos"
    )
    if metric.withheld:
        yield f"{metric.withheld:,} withheld by the safety checker"
    if metric.real is not None:
        yield f"against {metric.real:,} real ones"


def choices_table(result: Published) -> Table:
    """What the figures of a protocol depend on: every choice of its blocks."""
    rows = []
    for block, values in result.choices.items():
        choices = "; ".join(f"{name.replace('_', ' ')}: {_choice(name, value)}" for name, value in values.items())
        rows.append(Row((Cell(_metric_name(block)), Cell(choices, source=result.origin.key))))
    return Table(f"Choices of the protocol behind {result.origin.key}", ("Of", "Choices"), tuple(rows))


def _metric_name(name: str) -> str:
    return _METRICS.get(name, name.replace("_", " "))


def _choice(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ZERO[name] if value == 0 and name in ZERO else str(value)


def _of_ablation(table: PaperTable, results: Sequence[Ablation]) -> Section:
    own = []
    for result in results:
        for row in table.rows:
            cells = [_arm_cell(result, row.arm, column) for column in table.columns]
            labels = [Cell(text, "this project, storybook scale" if i == 0 else "") for i, text in enumerate(row.label)]
            own.append(Row((*labels, *cells), own=True))
    return _section(table, own, (_SCALE,))


def _arm_cell(result: Ablation, name: str, column: Column) -> Cell:
    key, arm = result.origin.key, result.arms.get(name)
    if column.why:
        return Cell(NOT_RUN, column.why)
    if arm is None or arm.why:
        return Cell(NOT_RUN, _first_line(arm.why) if arm else f"no arm {name}", key)
    figure = arm.figures.get((column.figure,), Figure(None))
    if figure.value is None:
        return Cell(NOT_RUN, "the result has no value", key)
    return Cell(value_text(figure, column.decimals, column.unit), interval_text(figure, column.decimals), key)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def protocol_section(result: Published) -> Section:
    """A protocol that is in none of the paper's tables."""
    key, rows = result.origin.key, []
    for name, metric in result.metrics.items():
        title, measured = _metric_name(name), metric.figure.value is not None
        cell = (
            Cell(value_text(metric.figure), _metric_note(metric), key) if measured else Cell(NOT_RUN, metric.why, key)
        )
        rows.append(Row((Cell(title), cell)))
        groups: Mapping[str, Figure] = metric.groups or {}
        rows += [Row((Cell(f"{title}, {group}"), _group_cell(figure, key))) for group, figure in groups.items()]
    title = f"{result.title}: {_made_by(result).text}"
    items = (Table(f"Figures of {result.name}", ("Metric", "Value"), tuple(rows)), choices_table(result))
    return Section(f"protocol-{key.lower()}", title, (), items)


def _group_cell(figure: Figure, key: str) -> Cell:
    interval = interval_text(figure)
    notes = [f"95 %: {interval}"] if interval else []
    return Cell(value_text(figure), ", ".join([*notes, f"{figure.of} videos"] if figure.of else notes), key)
