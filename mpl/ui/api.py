"""The endpoints for programs: a whole run, or one stage of it. They wait in the same line as everybody's runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from mpl.engine import Ask
from mpl.ui.desk import Desk
from mpl.ui.duel import Duel, Side
from mpl.ui.form import SLIDERS, read
from mpl.ui.verdict import rows


def offer(desk: Desk, duel: Duel) -> None:
    """Makes the endpoints, inside of a page's block."""
    for endpoint in (*_runs(desk), *_stages(desk), _comparison(duel)):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)


# Programs read signatures and docstrings, so what an endpoint belongs to comes from around it.
Endpoint = Callable[..., Any]


def _runs(desk: Desk) -> tuple[Endpoint, ...]:
    async def generate(
        prompt: str,
        seed: int = 0,
        preset: str = "",
        strength: float | None = None,
        cap: int | None = None,
        snr: float | None = None,
    ) -> tuple[dict, dict]:
        """Makes a video of a prompt; returns the mp4 file and its recipe.

        Args:
            prompt: what the video shows, 1 to 1000 characters.
            seed: a whole number from 0 to 2^63 - 1; the same seed gives the same video.
            preset: a preset's name; empty takes the server's own.
            strength: SDEdit strength of expert translation, above 0 to 1.
            cap: the highest timestep that the expert may start from, 1 to 1000.
            snr: SNR of the noise augmentation before super-resolution, above 0.
        """
        values = {key: v for key, v in zip(SLIDERS, (strength, cap, snr), strict=True) if v is not None}
        return await _answer(desk, prompt, seed, preset, values)

    async def keyframes(prompt: str, seed: int = 0, preset: str = "") -> tuple[dict, dict]:
        """Stage 1 alone: 8 keyframes of 64×40, 2 a second; returns the mp4 file and its recipe.

        Args:
            prompt: what the video shows, 1 to 1000 characters.
            seed: a whole number from 0 to 2^63 - 1.
            preset: a preset's name; empty takes the server's own.
        """
        return await _answer(desk, prompt, seed, preset, {}, stop_after="keyframes")

    return generate, keyframes


def _stages(desk: Desk) -> tuple[Endpoint, ...]:
    async def interpolation(video: gr.FileData, prompt: str, seed: int = 0, preset: str = "") -> tuple[dict, dict]:
        """Stage 2 alone: three new frames between each two of a video; returns the mp4 file and its recipe.

        Args:
            video: 2 to 240 frames; other sizes than 64×40 are stretched.
            prompt: what the video shows.
            seed: a whole number from 0 to 2^63 - 1.
            preset: a preset's name; empty takes the server's own.
        """
        return await _stage(desk, "interpolation", video, prompt, seed, preset, {})

    async def superres(
        video: gr.FileData, prompt: str, seed: int = 0, preset: str = "", snr: float | None = None
    ) -> tuple[dict, dict]:
        """Stage 3 alone: a video of 64×40 becomes one of 256×160; returns the mp4 file and its recipe.

        Args:
            video: 1 to 240 frames; other sizes than 64×40 are stretched.
            prompt: what the video shows.
            seed: a whole number from 0 to 2^63 - 1.
            preset: a preset's name; empty takes the server's own.
            snr: SNR of the noise augmentation, above 0.
        """
        return await _stage(desk, "superres", video, prompt, seed, preset, {"superres.snr": snr})

    async def translation(
        video: gr.FileData,
        prompt: str,
        seed: int = 0,
        preset: str = "",
        strength: float | None = None,
        cap: int | None = None,
    ) -> tuple[dict, dict]:
        """Stage 4 alone, video to video: the expert paints a video anew at 576×320; returns the mp4 and its recipe.

        Args:
            video: 1 to 240 frames; other sizes than 256×160 and 576×320 are stretched.
            prompt: what the video shows.
            seed: a whole number from 0 to 2^63 - 1.
            preset: a preset's name; empty takes the server's own.
            strength: SDEdit strength, above 0 to 1.
            cap: the highest timestep that the expert may start from, 1 to 1000.
        """
        values = {"translation.strength": strength, "translation.cap": cap}
        return await _stage(desk, "translation", video, prompt, seed, preset, values)

    return interpolation, superres, translation


def _comparison(duel: Duel) -> Endpoint:
    async def compare(
        prompt: str,
        seed: int = 0,
        preset_a: str = "",
        preset_b: str = "",
        strength_a: float | None = None,
        strength_b: float | None = None,
        cap_a: int | None = None,
        cap_b: int | None = None,
        snr_a: float | None = None,
        snr_b: float | None = None,
        stop_after_a: str = "translation",
        stop_after_b: str = "translation",
    ) -> tuple[dict, dict, list]:
        """Makes two videos of a prompt with one seed; returns both mp4 files and a list of their figures.

        Args:
            prompt: what the videos show, 1 to 1000 characters.
            seed: a whole number from 0 to 2^63 - 1.
            preset_a: a preset's name; empty takes the server's own.
            preset_b: likewise, of the other video.
            strength_a: SDEdit strength of expert translation, above 0 to 1; none takes the preset's.
            strength_b: likewise, of the other video.
            cap_a: the highest timestep that the expert may start from, 1 to 1000.
            cap_b: likewise, of the other video.
            snr_a: SNR of the noise augmentation before super-resolution, above 0.
            snr_b: likewise, of the other video.
            stop_after_a: the last stage: keyframes, interpolation, superres or translation.
            stop_after_b: likewise, of the other video.
        """
        sides = [
            _side("A", preset_a, (strength_a, cap_a, snr_a), stop_after_a),
            _side("B", preset_b, (strength_b, cap_b, snr_b), stop_after_b),
        ]
        try:
            made = await duel.call(prompt, seed, tuple(sides))
        except (ValueError, RuntimeError) as error:
            raise gr.Error(str(error), print_exception=False) from None
        return (*(_file(arm.file) for arm in made), rows(made))

    return compare


async def _stage(
    desk: Desk, stage: str, video: Any, prompt: str, seed: int, preset: str, values: dict[str, Any]
) -> tuple[dict, dict]:
    given = {key: value for key, value in values.items() if value is not None}
    run = {"start_at": stage, "stop_after": stage, "source_name": "a video given by a program"}
    return await _answer(desk, prompt, seed, preset, given, source=_uploaded(video), **run)


def _uploaded(video: Any) -> Path:
    """The file that a program has uploaded; raises `gr.Error` for any other of this machine's.

    The toolkit checks that only of what calls itself a file (`meta`), and hands on the rest as it came.
    """
    broken = (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError)  # the last one: links in a circle
    with contextlib.suppress(*broken):
        path = Path(video["path"] if isinstance(video, dict) else video.path).resolve()
        if path.is_relative_to(Path(get_upload_folder()).resolve()) and path.is_file():
            return path
    words = "video: must be a file that was uploaded to this server, as gradio_client's handle_file does it"
    raise gr.Error(words, print_exception=False)


async def _answer(
    desk: Desk, prompt: str, seed: int, preset: str, values: dict[str, Any], **run: Any
) -> tuple[dict, dict]:
    try:
        ask: Ask = read(prompt, seed, desk.presets, preset, values, **run)
        done = await desk.call(ask)
    except (ValueError, RuntimeError) as error:
        raise gr.Error(str(error), print_exception=False) from None
    return _file(done.file), done.recipe


def _file(path: Any) -> dict:
    return gr.FileData(path=str(path), orig_name="video.mp4").model_dump()


def _side(label: str, preset: str, values: tuple[Any, ...], stop_after: str) -> Side:
    given = {key: value for key, value in zip(SLIDERS, values, strict=True) if value is not None}
    return Side(label, preset, given, stop_after)
