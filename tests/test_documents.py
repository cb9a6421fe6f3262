"""What the documents say can be typed: commands that parse, presets and keys that exist, links that lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from mpl.__main__ import VERBS, Parser
from mpl.command import assignments
from mpl.config import load_preset, override

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED, INLINE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S), re.compile(r"`([^`]+)`")


def commands() -> list[tuple[str, str]]:
    """Every `… -m mpl VERB …` with its document; those with an ellipsis are no whole ones."""
    found = set()
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ").splitlines()
        for said in [*blocks, *(one.replace("\n", " ") for one in INLINE.findall(FENCED.sub("", text)))]:
            said = re.split(r"\s+#|\s&", said)[0].partition("-m mpl ")[2]
            if " " in said and "…" not in said:
                found.add((path.name, re.sub(r" N$", " 8", said)))
    return sorted(found)


def test_documents_hold_commands() -> None:
    assert len(commands()) >= 30


@pytest.mark.parametrize(("document", "said"), commands())
def test_what_a_document_says_can_be_typed(document: str, said: str) -> None:
    verb, *words = shlex.split(said)
    _, module, add, _ = VERBS[verb]
    parser = Parser(prog=f"{document}: {said}", allow_abbrev=False)
    getattr(importlib.import_module(module), add)(parser)
    parser.add_argument("--json", action="store_true")
    for name, value in vars(parser.parse_args(words)).items():
        if name.startswith("set") and value:
            override(load_preset("storybook"), assignments(value, f"--{name}"))
        if name == "preset" and value and value.islower() and verb not in ("train",):
            load_preset(value)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)", text):
        assert (path.parent / target).exists(), target
    heads = [
        re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)
    ]
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(heads)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.py")), ids=lambda path: path.name)
def test_scripts_beside_the_documents_find_what_they_import(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs them for months; what they take from the program may have moved. Nothing happens at import."""
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
