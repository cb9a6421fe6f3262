"""Made-up results of every kind, as `python -m mpl evaluate` writes them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from mpl.intervals import Share

ABOUT = {"versions": {"python": "3.11.7", "torch": "2.13.0"}, "machine": "2 cores, x86_64"}
ATTRIBUTES = ("subject", "colour", "motion", "setting", "camera")
ARMS = ("latent + latent", "latent + pixel", "pixel + pixel", "pixel + latent")


def mean(value: float, half: float = 0.05) -> dict[str, float]:
    return {"mean": value, "low": round(value - half, 4), "high": round(value + half, 4)}


def shares(*rights: int, of: int = 64) -> dict[str, Any]:
    return {name: Share(right, of).as_dict() for name, right in zip((*ATTRIBUTES, "pattern"), rights, strict=False)}


def words(first: int, others: int, of: int = 256) -> dict[str, Any]:
    behind = mean(round(100 * (first - others) / of, 2), 4.0)
    return {"first": Share(first, of).as_dict(), "others": Share(others, of).as_dict(), "points_behind": behind}


def finished(seed: int = 0) -> dict[str, Any]:
    """Figures of whole videos, as `mpl.evaluation.whole.summary` gives them."""
    rng = random.Random(seed)
    return {
        "attributes": shares(*(rng.randint(40, 64) for _ in range(6))),
        "words": words(rng.randint(200, 240), rng.randint(200, 240)),
        "judge_on_renders": shares(*[64] * 6),
        "lost_points": {name: mean(rng.uniform(-1, 4), 3) for name in ATTRIBUTES},
        "fvd": round(rng.uniform(10, 60), 4),
        "fid": round(rng.uniform(1, 9), 4),
        "clipsim": mean(0.2512 + seed / 100, 0.01),
        "consistency": mean(0.98, 0.002),
        "true_consistency": mean(0.985, 0.002),
        "energy": mean(0.91, 0.04),
        "seams": mean(1.02, 0.02),
        "flicker": {"median": 1.234, "videos": 17},
        "true_flicker": {"median": 0.0, "videos": 17},
        "seconds": {"keyframes": 2.5, "interpolation": 0.3, "superres": 3.1, "translation": 14.8, "all": 20.7},
        "peak_memory_gb": 1.14,
    }


def storybook(*parts: str, split: str = "heldout") -> dict[str, Any]:
    enlarged = {"distance": 0.8123, "bilinear_distance": 1.1, "distance_ratio": mean(0.73), "fid_ratio": 0.4321}
    small = {"attributes": shares(60, 64, 52, 63, 20), "judge_on_renders": shares(64, 64, 64, 64, 50)}
    found = {
        "keyframes": small | {"words": words(230, 225)},
        "interpolation": {"psnr_db": 26.3, "linear_psnr_db": 25.5, "gain_db": mean(0.81, 0.3)},
        "superres": enlarged,
        "translation": {"of_superres": enlarged, "autoencoder_alone": enlarged, "of_renders": enlarged},
        "video": finished(),
    }
    about = {"kind": "storybook", "n": 64, "preset": "storybook", "changed": [], "split": split, **ABOUT}
    about["command"] = "python -m mpl evaluate storybook --count 64"
    meanings = {"judges": {"judge": "eight moments"}, "figures": {"fvd": "Fréchet distance to renders"}}
    about["protocol"] = {"title": "Storybook", "cases": {"count": 256, "split": "heldout"}, **meanings}
    return about | {part: found[part] for part in parts or found}


def ablation(name: str = "table4", **changes: Any) -> dict[str, Any]:
    rng = random.Random(name)

    def difference(value: float, half: float) -> dict[str, Any]:
        return {"value": round(value, 4), "low": round(value - half, 4), "high": round(value + half, 4), "n": 64}

    def told() -> dict[str, Any]:
        points = {f"{attribute} (points)": difference(rng.uniform(-12, 20), 9) for attribute in ATTRIBUTES}
        more = {"clipsim": difference(0.01, 0.004), "energy": difference(-0.02, 0.05), "fvd": difference(-7.7, 3)}
        return points | more | {"fid": {"value": None, "low": None, "high": None, "n": 1}}

    arms = {arm: finished(i) for i, arm in enumerate(ARMS)}
    arms["latent + pixel"] = {"why": "weights.upsampling: assets/ablations/upsampling is not there"}
    pairs = ("pixel + latent less latent + latent", "pixel + latent less pixel + pixel")
    about = {"kind": "ablation", "name": name, "title": "Pixel and latent diffusion", "about": "In pixels or latents."}
    about |= {"stage": "translation", "n": 64, "arms": arms, "differences": {pair: told() for pair in pairs}}
    about["command"] = f"python -m mpl evaluate ablations --only {name} --n 64"
    return about | ABOUT | {"sheet": "sheet.png"} | changes


def published(name: str = "msrvtt", **changes: Any) -> dict[str, Any]:
    real = {"n": 2048, "left_out": 0, "because": {}}
    figures = {
        "fvd": {"value": 612.3456, "n": 2048, "withheld": 2, "real": real, "protocol_asks": 2048},
        "fid_vid": {"value": None, "why": "fid_vid needs --real DIR", "n": 0, "protocol_asks": 2048},
        "clipsim": {"value": 0.28765, "low": 0.2861, "high": 0.2892, "n": 500, "withheld": 0, "protocol_asks": 59794},
    }
    blocks = {"videos": {"crop": "square", "antialias": True}, "fvd": {"network": "i3d", "frames": 16, "fps": 8.0}}
    result = {
        "kind": "protocol",
        "protocol": {"name": name, "title": f"{name}, zero-shot", **blocks},
        "preset": "show1",
        "changed": [],
    }
    result |= {"stop_after": None, "figures": figures, "weights": {"i3d.pt": "0123456789abcdef" * 4}}
    return result | ABOUT | {"command": f"python -m mpl evaluate {name}"} | changes


def write(folder: Path, result: dict[str, Any]) -> Path:
    """The result as a file, with a contact sheet where it names one."""
    folder.mkdir(parents=True, exist_ok=True)
    if result.get("sheet") == "sheet.png":
        sheet = Image.new("RGB", (480, 240), "white")
        for i in range(4):
            sheet.paste((200 - 40 * i, 90 + 30 * i, 120), (i * 120 + 4, 20, i * 120 + 116, 220))
        sheet.save(folder / "sheet.png")
    path = folder / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path
