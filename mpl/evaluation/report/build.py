"""From results to a report: what was measured, the paper beside it, what is required, the storybook, the ablations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mpl.evaluation.protocols import load_storybook_protocol

from .ablations import ablation_section
from .document import SOURCES, Cell, Report, Row, Section, Table
from .figures import NOT_MEASURED
from .paper import PaperTable, load_paper_tables, paper_section, protocol_section
from .reading import Ablation, Published, Result, Storybook
from .storybook import MET, NOT_MET, Verdict, load_required, required_section, storybook_section, verdicts

_ABOUT = (
    "Every figure carries the key of its source: R and a number for a result of this project, P and a number for a "
    "table of the paper. What was not run says so."
)

_RESERVED = " with a reservation"
_WORDS = (MET, f"{MET}{_RESERVED}", NOT_MET, f"{NOT_MET}{_RESERVED}", NOT_MEASURED)  # of verdicts, in this order


def build(results: Sequence[Result]) -> Report:
    """The report of results.

    Raises:
        ValueError: a picture of a result cannot be read.
    """
    tables, required = load_paper_tables(), load_required()
    found = verdicts(required, results)
    in_tables = {table.protocol for table in tables}
    stories = [storybook_section(x, required) for x in results if isinstance(x, Storybook)]
    ablations = [ablation_section(x) for x in results if isinstance(x, Ablation)]
    others = [protocol_section(x) for x in results if isinstance(x, Published) and x.name not in in_tables]
    whole = [_sources(tables, results), paper_section(tables, results), required_section(found)]
    groups = (("storybook", "Storybook", stories), ("ablations", "Ablations", ablations))
    for key, title, sections in (*groups, ("protocols", "Other protocols", others)):
        if sections:
            whole.append(Section(key, title, sections=tuple(sections)))
    return Report("MPL-Video: measurements", (_summary(results, found), _ABOUT), tuple(whole))


def _summary(results: Sequence[Result], found: Sequence[Verdict]) -> str:
    kinds = Counter(_kind(x) for x in results)
    of = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    count = f"{len(results)} {'result' if len(results) == 1 else 'results'}"
    return f"{count}: {of}. Of the required figures: {_told(found)}."


def _told(found: Sequence[Verdict]) -> str:
    """How many verdicts of each word; those that say a reservation in their row are counted apart."""
    asked = load_storybook_protocol().cases.count
    counts = Counter(v.word + (_RESERVED if v.reservations(asked) else "") for v in found)
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts, key=_WORDS.index))


def _kind(result: Result) -> str:
    match result:
        case Storybook():
            return "of the storybook"
        case Ablation():
            return "of ablations"
        case Published():
            return "of published protocols"


def _sources(tables: Sequence[PaperTable], results: Sequence[Result]) -> Section:
    columns = ("Source", "What", "File", "Command", "Machine", "Versions")
    own = [_source(result) for result in results]
    used = [x for x in tables if x.protocol or any(isinstance(r, Ablation) and r.name == x.ablation for r in results)]
    paper = [
        Row(
            (
                Cell(table.source),
                Cell(f"the paper's Table {table.number}"),
                Cell("presets/report/paper.toml", code=True),
                Cell("copied from the paper"),
                *(Cell("–") for _ in range(2)),
            ),
            key=table.source,
        )
        for table in used
    ]
    return Section(SOURCES, "What was measured", (), (Table("Sources", columns, (*own, *paper)),))


def _source(result: Result) -> Row:
    origin = result.origin
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    cells = (
        Cell(origin.key),
        Cell(*_what(result)),
        Cell(str(origin.path), code=True),
        Cell(origin.command or "not said", code=bool(origin.command)),
        Cell(origin.machine or "not said"),
        Cell(versions or "not said", _weights(result)),
    )
    return Row(cells, key=origin.key)


def _what(result: Result) -> tuple[str, str]:
    match result:
        case Storybook():
            return f"storybook, preset {result.preset}", f"{', '.join(result.parts)}; n = {result.n}"
        case Ablation():
            return f"ablation {result.name}", f"{len(result.arms)} arms; n = {result.n}"
        case Published():
            return f"{result.title}, preset {result.preset}", ", ".join(result.metrics).replace("_", " ")


def _weights(result: Result) -> str:
    if not isinstance(result, Published) or not result.weights:
        return ""
    return "networks, SHA-256: " + ", ".join(f"{name} {digest[:12]}…" for name, digest in result.weights.items())
