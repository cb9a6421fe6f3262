"""Presets: what is accepted, what is refused and how it is said, round trips, the shipped files."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mpl.config import (
    Preset,
    differences,
    from_dict,
    get,
    load_preset,
    override,
    preset_folder,
    preset_names,
    to_dict,
    to_toml,
)
from mpl.limits import LIMITS, MAX_SEED, check_path, check_prompt, check_seed
from mpl.options import SuperresOptions, TranslationOptions


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_toml_round_trip_of_every_kind_of_value(tmp_path):
    preset = override(
        Preset(),
        {
            "name": 'od"d\\ näme\t\x7f',
            "superres.snr": "inf",
            "clamp": "false",
            "weights.superres_first_frame": "DeepFloyd/IF-II-L-v1.0",
            "text.negative_prompt": "blur\nnoise 🚗",
            "translation.strength": 0.123456789012345,
        },
    )
    assert load_preset(write(tmp_path / "p.toml", to_toml(preset))) == preset
    assert from_dict(to_dict(preset)) == preset
    assert to_dict(preset)["superres"]["snr"] == "inf"  # JSON has no infinity


@pytest.mark.parametrize("name", ["storybook", "quick", "show1", "paper"])
def test_shipped_presets_load_and_round_trip(name, tmp_path):
    preset = load_preset(name)
    assert preset.name == name
    assert load_preset(write(tmp_path / "copy.toml", to_toml(preset))) == preset


def test_show1_says_the_published_numbers():
    p = load_preset("show1")
    steps = [getattr(p, stage).steps for stage in ("keyframes", "interpolation", "superres", "translation")]
    guidance = [getattr(p, stage).guidance for stage in ("keyframes", "interpolation", "superres", "translation")]
    assert steps == [75, 75, 125, 50] and guidance == [9, 4, 7, 15]
    first = (p.superres.first_frame_steps, p.superres.first_frame_guidance, p.superres.first_frame_noise_level)
    assert first == (70, 4, 150) and p.text.tokens == 77 and not p.clamp
    published = (p.translation.strength, p.translation.grid, p.translation.resize, p.translation.posterior)
    assert published == (0.8, "published", "published", "sample")
    loose = (p.interpolation.keep_keyframes, p.interpolation.shared_noise, p.superres.shared_noise)
    assert loose == (False, True, True) and p.interpolation.fill == "linear"


def test_extends_needs_only_what_differs(tmp_path):
    write(tmp_path / "base.toml", "[keyframes]\nsteps = 5\nguidance = 2\n[text]\ntokens = 9\n")
    child = write(tmp_path / "child.toml", 'extends = "base.toml"\n[keyframes]\nsteps = 7\n')
    preset = load_preset(child)
    assert (preset.name, preset.keyframes.steps, preset.keyframes.guidance, preset.text.tokens) == ("child", 7, 2.0, 9)
    loop = write(tmp_path / "loop.toml", 'extends = "loop.toml"\n')
    with pytest.raises(ValueError, match="extends itself"):
        load_preset(loop)
    assert load_preset("quick").keyframes.steps < load_preset("storybook").keyframes.steps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[keyframes]\nsteps = 0", ["keyframes.steps = 0", "a whole number from 1 to 1000"]),
        ("[keyframes]\nsteps = 2.5", ["keyframes.steps = 2.5", "whole number"]),
        ("[keyframes]\nsteps = true", ["keyframes.steps = true", "whole number"]),
        ('[keyframes]\nsteps = "5"', ['keyframes.steps = "5"', "whole number"]),
        ("[keyframes]\nstepz = 5", ["'keyframes.stepz'", "'steps'"]),
        ("[keyframe]\nsteps = 5", ["'keyframe'", "'keyframes'"]),
        ("keyframes = 5", ["keyframes = 5", "block"]),
        ("[translation]\nstrength = 0", ["translation.strength = 0.0", "above 0 to 1"]),
        ("[translation]\nstrength = nan", ["translation.strength = nan", "above 0 to 1"]),
        ("[translation]\nwidth = 570", ["translation.width = 570", "a multiple of 8"]),
        ("[superres]\nsnr = 0", ["superres.snr = 0.0", "or inf"]),
        ("[superres]\nsnr = -inf", ["superres.snr = -inf", "or inf"]),
        ("[superres]\nstride = 8", ["superres.stride = 8", "superres.window (8)"]),
        ('[interpolation]\nfill = "blend"', ['interpolation.fill = "blend"', "one of zeros, linear"]),
        ('[weights]\ndevice = "gpu"', ['weights.device = "gpu"', "cuda:N"]),
        ("clamp = 1", ["clamp = 1", "true or false"]),
        ("[keyframes", ["broken TOML", "at end of document"]),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, text, words):
    path = write(tmp_path / "bad.toml", text)
    with pytest.raises(ValueError) as error:
        load_preset(path)
    message = str(error.value)
    assert "bad.toml" in message and all(word in message for word in words)
    assert "\n" not in message


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="storybook"):
        load_preset("nope")
    with pytest.raises(ValueError, match="no such file"):
        load_preset("nope.toml")
    assert "storybook" in preset_names() and not any(name.startswith("training") for name in preset_names())
    assert all((preset_folder() / f"{name}.toml").is_file() for name in preset_names())


def test_override_reads_texts_as_the_keys_type():
    preset = override(
        Preset(),
        {"keyframes.steps": " 3 ", "superres.snr": "inf", "clamp": "no", "weights.superres_first_frame": "none"},
    )
    assert preset.keyframes.steps == 3 and math.isinf(preset.superres.snr) and preset.clamp is False
    assert preset.weights.superres_first_frame is None
    assert override(preset, {"keyframes.guidance": 2}).keyframes.guidance == 2.0
    for key, value in (("keyframes.steps", "2.5"), ("keyframes.steps", "many"), ("clamp", "maybe"), ("fps", "0")):
        with pytest.raises(ValueError, match=key):
            override(preset, {key: value})
    for key in ("translation.strenth", "translation", "nothing.at.all", "_block", "weights._block", ""):
        with pytest.raises(ValueError, match="unknown key"):
            override(preset, {key: "1"})


def test_keys_of_a_block_are_changed_together_in_any_order():
    changes = {"superres.stride": "9", "superres.window": "12"}
    for order in (changes, dict(reversed(changes.items()))):
        superres = override(Preset(), {"fps": 9, **order}).superres
        assert (superres.stride, superres.window) == (9, 12)
    with pytest.raises(ValueError, match="superres.stride = 9: must be below superres.window"):
        override(Preset(), {"superres.stride": "9"})


def test_the_ablation_without_the_expert_differs_in_the_cap_and_the_weights_made_for_it():
    assert "ablations/no_expert" in preset_names()
    changed = differences(load_preset("ablations/expert"), load_preset("ablations/no_expert"))
    assert changed == {
        "translation.cap": (900, 1000),
        "weights.expert": ("assets/ablations/expert", "assets/ablations/no_expert"),
    }


def test_values_are_checked_however_a_block_is_made():
    with pytest.raises(ValueError, match="translation.cap"):
        TranslationOptions(cap=1001)
    with pytest.raises(ValueError, match="superres.window"):
        dataclasses.replace(SuperresOptions(), window=1)
    assert isinstance(TranslationOptions(guidance=3).guidance, float)  # equal presets hash alike


def test_every_number_and_text_has_a_limit_and_every_limit_a_key():
    keys = set()
    for f in dataclasses.fields(Preset):
        value = getattr(Preset(), f.name)
        block = [(f.name, value)]
        if dataclasses.is_dataclass(value):
            block = [(f"{f.name}.{g.name}", getattr(value, g.name)) for g in dataclasses.fields(value)]
        keys |= {key for key, value in block if not isinstance(value, bool)}
    assert keys == set(LIMITS)


def test_differences_name_keys_and_values():
    a = Preset()
    b = override(a, {"name": "other", "translation.cap": 1000, "clamp": False})
    assert differences(a, b) == {"clamp": (True, False), "translation.cap": (900, 1000)}
    assert get(b, "translation.cap") == 1000


@pytest.mark.parametrize("value", [0, "0", 17, " 42 ", MAX_SEED, str(MAX_SEED)])
def test_seeds_that_are(value):
    assert check_seed(value) == int(value)


@pytest.mark.parametrize("value", [-1, MAX_SEED + 1, str(MAX_SEED + 1), 1.0, True, None, "", "x", "1.5", "-1", "٣"])
def test_seeds_that_are_none(value):
    with pytest.raises(ValueError, match="seed = .*whole number from 0 to"):
        check_seed(value)


def test_prompts():
    assert check_prompt("  a red\n car ") == "a red car"
    for bad in ("", " \n", None, 7):
        with pytest.raises(ValueError, match="prompt is empty"):
            check_prompt(bad)
    with pytest.raises(ValueError, match="10000 characters: at most 1000"):
        check_prompt("x" * 10_000)
    with pytest.raises(ValueError, match=r"prompt holds '\\udcff' at character 3: only text in UTF-8 is accepted"):
        check_prompt("a \udcff car")


def test_texts_that_no_file_can_hold_are_refused():
    """What is not UTF-8 on the command line arrives as lone surrogates, and would break the recipe after the run."""
    with pytest.raises(ValueError, match="text.negative_prompt"):
        override(Preset(), {"text.negative_prompt": "blur \udcff"})
    assert check_path("wídeos/🚗", "--out") == "wídeos/🚗"
    for bad in ("a\0b", "a\udcff"):
        with pytest.raises(ValueError, match="--out = .*: must be a path in UTF-8 without null characters") as error:
            check_path(bad, "--out")
        assert error.value.args[0].isprintable()


@pytest.mark.parametrize(("key", "value"), [("keyframes.steps", 10**400), ("keyframes.guidance", -(10**400))])
def test_numbers_beyond_all_floats_are_refused_as_others(key, value):
    with pytest.raises(ValueError, match=f"{key} = .*must be a (whole )?number from"):
        override(Preset(), {key: str(value)})
    block, name = key.split(".")
    with pytest.raises(ValueError, match=f"{key} = .*must be a (whole )?number from"):
        from_dict({block: {name: value}})
