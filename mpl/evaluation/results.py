"""Results on disk: one `result.json` in a folder for each measurement, with what it was measured by."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpl.video import replacing

NAME = "result.json"
UNFINISHED = (
    "unfinished.json"  # what there is of one that is still being measured; an earlier result stays till the end
)
PACKAGES = ("torch", "diffusers", "transformers", "torchmetrics", "numpy")


def save(folder: Path, result: Mapping[str, Any], name: str = NAME) -> Path:
    """Writes a result as a whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / name) as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return folder / name


def provenance(command: str, packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """The command, the versions of the packages that are there, and the machine in words."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional one
            continue
    return {"command": command, "versions": found, "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
