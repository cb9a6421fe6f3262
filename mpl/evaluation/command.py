"""`python -m mpl evaluate WHAT`: figures of the embedded models, or of a published protocol; as JSON and in words."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mpl.limits import check_folder, check_path
from mpl.shards import read_shard
from mpl.store import digest
from mpl.storybook.captions import STYLES
from mpl.storybook.paraphrases import SPOKEN

from .protocols import STORYBOOK, StorybookProtocol, load_protocol, load_storybook_protocol, protocol_names
from .results import UNFINISHED, provenance, save
from .summary import summary

if TYPE_CHECKING:
    from mpl.config import Preset

    from .storybook import Bench

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PARTS = ("keyframes", "interpolation", "superres", "translation", "video")
OUT = "runs/evaluation"
ABLATIONS = "ablations"
SHEET = "sheet.png"
ENLARGING = ("superres", "translation")  # parts that take long, on renders
VIDEO_BYTES = 250_000_000  # what all parts keep of a caption in the cache, of the default preset
_LONGEST_NAME = 120  # of a folder
# Which options each kind of measurement has, by their names in the parsed arguments; all have n and set.
OF_STORYBOOK = ("preset", "set", "part", "split", "style", "judges", "cache", "shard", "out")
OF_ABLATIONS = ("only", "split", "judges", "cache", "shard", "out")
OF_PROTOCOLS = (
    "preset",
    "set",
    "out",
    "shard",
    "weights_dir",
    "real",
    "captions",
    "stop_after",
    "generate_only",
    "score_only",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join((STORYBOOK, ABLATIONS, *protocol_names()))
    parser.add_argument("what", metavar="WHAT", help=f"{kinds}, or a FILE.toml")
    # torchrun would take --n for one of its own options.
    cases = "held-out cases, default 256 (ablations: 64); or videos, default: all"
    parser.add_argument("--n", "--count", type=int, help=cases)
    parser.add_argument("--preset", metavar="NAME|FILE.toml", help="default: storybook; of protocols: show1")
    parser.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="such as keyframes.steps=10")
    where = f"result.json, with videos/ of protocols; default: {OUT}/WHAT, of storybook with the options in its name"
    parser.add_argument("--out", metavar="DIR", help=where)
    own = parser.add_argument_group("storybook, ablations")
    own.add_argument("--part", action="append", choices=PARTS, help="a stage, or video: the whole way; default: all")
    own.add_argument("--split", choices=("heldout", "train"), help="combinations never learned (default), or learned")
    own.add_argument("--style", choices=(*STYLES, SPOKEN), help="of captions; spoken: in everyday words")
    own.add_argument("--only", action="append", metavar="NAME", help="ablations: this comparison; default: all")
    own.add_argument("--judges", type=Path, help="folder of judge and judge_detail; default: assets/storybook")
    own.add_argument("--cache", metavar="DIR", help="keep stages' results there, and use what is there")
    parser.add_argument("--shard", metavar="PART/PARTS", help="make this part of the videos, measure later")
    published = parser.add_argument_group("protocols")
    published.add_argument("--weights-dir", type=Path, metavar="DIR", help=f"of the networks; default: {OUT}/weights")
    published.add_argument("--real", type=Path, metavar="DIR", help="the data set's videos")
    published.add_argument("--captions", type=Path, metavar="FILE", help="the data set's captions")
    published.add_argument("--stop-after", metavar="STAGE", help="measure what this stage gives")
    published.add_argument("--generate-only", action="store_true", default=None, help="make videos, measure later")
    published.add_argument("--score-only", action="store_true", default=None, help="measure videos that are there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of the embedded models, `{"n", "preset", part: figures}`, or the result of a published protocol.

    Raises:
        ValueError: options that cannot be, or models, judges, networks or videos that are not there, before any work.
        RunFailed: a run broke off.
    """
    published = args.what in protocol_names() or args.what.endswith(".toml")
    kinds = {STORYBOOK: (_run_storybook, OF_STORYBOOK), ABLATIONS: (_run_ablations, OF_ABLATIONS)}
    if not published and args.what not in kinds:
        accepted = ", ".join((*kinds, *protocol_names()))
        raise ValueError(f"evaluate {args.what}: unknown protocol; accepted: {accepted}, or a FILE.toml")
    measure, own = (_run_protocol, OF_PROTOCOLS) if published else kinds[args.what]
    for name in dict.fromkeys((*OF_STORYBOOK, *OF_ABLATIONS, *OF_PROTOCOLS)):
        if name not in own and getattr(args, name, None) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: not an option of evaluate {args.what}")
    if args.n is not None and args.n < 1:
        raise ValueError(f"--n {args.n}: accepted are whole numbers from 1")
    return measure(args)


def _run_storybook(args: argparse.Namespace) -> dict[str, Any]:
    """Says each part's figures as soon as they are there."""
    from mpl.command import assignments
    from mpl.config import load_preset, override

    protocol = load_storybook_protocol()
    name, count = args.preset or STORYBOOK, args.n or protocol.cases.count
    preset = override(load_preset(name), assignments(args.set, "--set"))
    command = _command(args, OF_STORYBOOK)
    bench, parts = _bench(args, preset, count), args.part or PARTS
    bench.check(parts)
    out = Path(check_folder(args.out or f"{OUT}/{_folder_name(args)}", "--out"))
    answer: dict[str, Any] = {"kind": STORYBOOK, "n": count, "preset": name, "changed": args.set or []}
    answer |= {"split": bench.split or protocol.cases.split, "style": bench.style or protocol.cases.style}
    answer |= {"protocol": asdict(protocol), "judges": str(args.judges) if args.judges else None}
    answer |= provenance(command) | {"revisions": bench.revisions(parts)}
    told = sys.stderr if args.json else sys.stdout
    for line in _protocol_lines(protocol, count, answer["split"], answer["style"]):
        print(line, file=told)
    for part in parts:
        share = protocol.cases.enlargement_share if part in ENLARGING and not args.part else 1.0
        print(part, file=sys.stderr)
        figures = _measure(part, bench, max(1, round(share * count)), out)
        if bench.shard:
            continue
        answer[part] = figures
        answer |= {"sheet": SHEET} if part == "video" else {}
        save(out, answer, UNFINISHED)
        for figure_name, figure in figures.items():
            meaning = protocol.figures.get(figure_name)
            print(f"{part} {figure_name}: {figure}{f'  ({meaning})' if meaning else ''}", file=told)
    if bench.shard:
        return {"kind": STORYBOOK, "shard": args.shard, "cache": args.cache}
    save(out, answer)
    (out / UNFINISHED).unlink(missing_ok=True)
    return answer


def _protocol_lines(protocol: StorybookProtocol, count: int, split: str, style: str) -> Iterator[str]:
    """Every choice that the figures depend on."""
    yield f"protocol: {count} captions, split {split}, style {style}"
    for choice, said in {**protocol.choices, **protocol.judges}.items():
        yield f"protocol: {choice}: {said}"


def _measure(part: str, bench: Bench, count: int, out: Path) -> dict[str, Any]:
    """A part's figures; of a shard nothing, since its cases are not all."""
    from . import storybook, whole

    if bench.shard and not [*bench.cases(count)]:
        return {}
    if part == "video":
        return whole.video(bench, count, None if bench.shard else out / SHEET)
    return getattr(storybook, part)(bench, count)


def _run_ablations(args: argparse.Namespace) -> dict[str, Any]:
    """Every comparison, or some, each with `result.json` and a contact sheet in a folder of its name."""
    from mpl.config import load_preset

    from .ablations import comparison_names, difference_lines, load_comparison, measure

    asked = [load_comparison(name) for name in args.only or comparison_names()]
    protocol = load_storybook_protocol()
    count = args.n or 64
    other = (f"-n{args.n}" if args.n else "") + (f"-{args.split}" if args.split else "")  # others stay
    other += f"-judges-{digest(str(args.judges.resolve()))[:8]}" if args.judges else ""
    bench = _bench(args, load_preset(STORYBOOK), count * sum(len(comparison.arms) for comparison in asked))
    bench.check(("video",))
    out = Path(check_folder(args.out or f"{OUT}/{ABLATIONS}", "--out"))
    asked_of = {"split": bench.split or protocol.cases.split, "protocol": asdict(protocol)}
    asked_of |= {"judges": bench.judge_revisions(("video",))}
    told = sys.stderr if args.json else sys.stdout
    for line in _protocol_lines(protocol, count, asked_of["split"], protocol.cases.style):
        print(line, file=told)
    answer: dict[str, Any] = {"kind": ABLATIONS, "comparisons": []}
    with _with_store(bench, count) as bench:
        for comparison in asked:
            print(f"{comparison.name}: {comparison.title}", file=sys.stderr)
            command = _command(args, ("split", "judges")) + f" --only {comparison.name}"
            folder = out / (comparison.name + other)
            found = measure(comparison, bench, count, folder)
            if bench.shard:
                continue
            found |= asked_of | provenance(command)
            save(folder, found)
            answer["comparisons"].append(found)
            for line in difference_lines(found):
                print(line, file=told)
    return answer | ({"shard": args.shard, "cache": args.cache} if bench.shard else {})


@contextmanager
def _with_store(bench: Bench, count: int) -> Iterator[Bench]:
    """The bench with a store, for as long as the block runs where it has none: comparisons have stages in common."""
    if bench.store:
        yield bench
        return
    from mpl.store import StageCache

    with TemporaryDirectory(prefix="mpl-ablations-") as folder:
        yield replace(bench, store=StageCache(folder, VIDEO_BYTES * count))


def _folder_name(args: argparse.Namespace, name: str = STORYBOOK) -> str:
    """Of a result of storybook or of a protocol: those of other options stay, and so do a protocol's videos.

    A protocol's count is left out: more videos go on from fewer.
    """
    chosen = ("preset", "set", "part", "split", "style", "judges", "stop_after")
    asked = args if name == STORYBOOK else argparse.Namespace(**{**vars(args), "n": None})
    options = shlex.split(_command(asked, chosen))[5:]
    name = re.sub(r"[^\w.=]+", "-", " ".join([name, *options])).rstrip("-")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{digest(name)[:8]}"


def _bench(args: argparse.Namespace, preset: Preset, videos: int) -> Bench:
    from mpl.store import StageCache
    from mpl.weights import Weights

    from .storybook import Bench

    shard, store = read_shard(args.shard, os.environ, "--shard"), None
    if shard and not args.cache:
        raise ValueError("--shard, or more processes than one: needs --cache DIR, where their parts meet")
    if args.cache:  # what is there stays, and all of this finds room beside it
        store = StageCache(check_folder(args.cache, "--cache"), VIDEO_BYTES * videos)
        store.max_bytes += store.bytes()
    judges, split = args.judges or ASSETS / "storybook", getattr(args, "split", None)
    return Bench(preset, Weights(preset.weights), judges, _count, store, split, args.style, shard)


def _run_protocol(args: argparse.Namespace) -> dict[str, Any]:
    from mpl.command import assignments
    from mpl.config import load_preset, override

    if args.generate_only and args.score_only:
        raise ValueError("--generate-only and --score-only: give one of the two, or none")
    if args.shard and args.score_only:
        raise ValueError(f"--shard {args.shard}: one process measures; leave it out with --score-only")
    protocol = load_protocol(args.what)
    preset = override(load_preset(args.preset or "show1"), assignments(args.set, "--set"))
    environment = {} if args.score_only else os.environ
    shard = read_shard(args.shard, environment, "--shard")

    from .plan import Request
    from .published import evaluate

    request = Request(
        protocol,
        preset,
        Path(check_path(args.out or f"{OUT}/{_folder_name(args, protocol.name)}", "--out")),
        args.weights_dir or Path(OUT, "weights"),
        args.real,
        args.captions,
        args.n,
        shard,
        args.stop_after,
        make=not args.score_only,
        score=not args.generate_only,
        changed=tuple(args.set or ()),
        command=_command(args),
    )
    result = evaluate(request, _count)
    for line in summary(result):
        print(line, file=sys.stderr if args.json else sys.stdout)
    return result


def _command(args: argparse.Namespace, own: Sequence[str] = OF_PROTOCOLS) -> str:
    """The command line that asks for the same."""
    words = ["python", "-m", "mpl", "evaluate", args.what]
    if args.n is not None:
        words += ["--count", str(args.n)]
    for name in own:
        value = getattr(args, name)
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None:
            for one in value if isinstance(value, list) else [value]:  # some options take one value at a time
                words += [option, str(one)]
    return shlex.join(words)


def _count(done: int, of: int) -> None:
    end = "\n" if done == of else ""
    print(f"\r  {done}/{of}", end=end, file=sys.stderr, flush=True)
