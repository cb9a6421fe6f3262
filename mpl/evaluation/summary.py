"""A protocol's result in words: every number beside the choices that it depends on. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ZERO = {"videos": "all", "frames": "all", "height": "as made", "width": "as made"}  # what 0 stands for


def summary(result: Mapping[str, Any]) -> Iterator[str]:
    """Lines about a result as `published.evaluate` returns it."""
    if "figures" not in result:
        yield f"{result['there']} of {result['of']} videos in {result['folder']}, {result['made']} of them made now"
        yield result["note"]
        return
    protocol = result["protocol"]
    changed = f" with {', '.join(result['changed'])}" if result["changed"] else ""
    stage = f", after {result['stop_after']}" if result["stop_after"] else ""
    yield f"{protocol['name']}: {protocol['title']}; preset {result['preset']}{changed}{stage}"
    for block in ("prompts", "videos", "real"):
        if block in protocol:
            yield f"  {block}: {_choices(protocol[block])}"
    for metric, figure in result["figures"].items():
        yield f"{metric}: {_figure(figure)}"
        yield f"  {_choices(protocol[metric])}"
        for name, part in figure.get("groups", {}).items():
            yield f"  {name}: {part['value']:.4f}{_interval(part)}, {part['n']} videos"
    for name, digest in result["weights"].items():
        yield f"{name}: SHA-256 {digest}"


def _choices(block: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_choice(key, value)}" for key, value in block.items())


def _choice(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ZERO[key] if value == 0 and key in ZERO else str(value)


def _figure(figure: Mapping[str, Any]) -> str:
    asks = figure["protocol_asks"]
    of = f"{figure['n']} videos" + (f" (the protocol asks for {asks})" if asks != figure["n"] else "")
    if figure["value"] is None:
        return f"not measured: {figure['why']}"
    text = f"{figure['value']:.4f}{_interval(figure)}, {of}"
    if figure["withheld"]:
        text += f", {figure['withheld']} withheld by the safety checker"
    if "splits" in figure:
        spread = "" if figure["deviation"] is None else f"standard deviation {figure['deviation']:.4f} over "
        text += f", {spread}{figure['splits']} splits"
    if "real" in figure:
        text += f", against {figure['real']['n']} real ones, {figure['real']['left_out']} left out"
    return text


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure.get("low"), figure.get("high")
    return "" if low is None else f" ({low:.4f} to {high:.4f})"
