"""What the page's form accepts and explains, its links, and recipes that set it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from app_toys import FRAMES, desk, engine, form  # noqa: F401  # fixtures

from mpl.config import Preset, from_dict, load_preset, override, preset_names, to_dict
from mpl.ui.desk import Desk
from mpl.ui.form import FIELDS, SLIDERS, Presets, example_prompts, followed, knobs, link, read, restored
from mpl.video import write_video


def test_form_becomes_a_preset() -> None:
    values = {"translation.cap": 800.0, "translation.strength": 1, "superres.snr": 2}
    ask = read(" a  red car ", 7.0, Presets(Preset()), "", values)
    assert (ask.prompt, ask.seed) == ("a red car", 7)
    assert (ask.preset.translation.cap, ask.preset.translation.strength, ask.preset.superres.snr) == (800, 1.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "10000 characters"),
        ({"seed": None}, "seed ="),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": -1}, "seed = -1"),
        ({"translation.strength": 1.5}, "translation.strength = 1.5: must be a number above 0 to 1"),
        ({"translation.cap": 0}, "translation.cap = 0"),
        ({"superres.snr": -2}, "superres.snr = -2"),
        ({"keyframes.steps": None}, "keyframes.steps"),
        ({"keyframes.steps": 2.5}, "must be a whole number from 1 to 1000"),
        ({"preset": "/etc/passwd"}, "must be one of"),
    ],
)
def test_bad_input_is_one_clear_message(desk: Desk, changes: dict[str, Any], words: str) -> None:
    answer = desk.ask("ann", form(**changes))
    assert set(answer) == {"notices"} and words in answer["notices"] and 'role="alert"' in answer["notices"]


def test_no_stage_takes_more_steps_than_the_server_lets(tmp_path: Path) -> None:
    """Neither by a knob, nor by a preset, a link or a comparison."""
    presets = Presets(load_preset("storybook"), max_steps=40)
    assert "quick" in presets.names and not {"paper_steps", "show1"} & set(presets.names)
    assert presets.changed("quick", {"superres.steps": 40}).superres.steps == 40
    with pytest.raises(ValueError, match=r"superres.steps = 41: no stage may take more than 40 steps here"):
        read("x", 0, presets, "quick", {"superres.steps": 41})
    with pytest.raises(ValueError, match="translation.steps = 500"):
        followed({"translation.steps": "500"}, presets)
    with pytest.raises(ValueError, match='preset "paper_steps": must be one of'):
        presets.get("paper_steps")
    with pytest.raises(ValueError, match=r"keyframes.steps = \d+: no stage may take more than 5 steps"):
        Desk(None, load_preset("storybook"), tmp_path, max_steps=5)  # type: ignore[arg-type]
    upsampling = override(load_preset("storybook"), {"weights.upsampling": "x", "translation.steps": 90})
    assert Presets(upsampling, max_steps=40).first is upsampling  # whose translation never runs


@pytest.mark.parametrize("seed", ["9007199254740993", "9223372036854775807", " 7 ", 7])
def test_seeds_come_as_they_are_written(seed: Any) -> None:
    """A browser's numbers end at 2^53."""
    presets = Presets(Preset())
    assert read("x", seed, Presets(Preset()), "", {}).seed == int(seed)
    values, _ = restored({"prompt": "x", "seed": int(seed), "preset": to_dict(Preset())}, presets)
    assert values["seed"] == int(seed)


def test_the_page_says_what_runs_here(desk: Desk) -> None:
    said = desk.explain(form())["machine"]
    assert "cpu (no CUDA device found)" in said and "keyframes 23 MB; 23 MB in all" in said
    assert "apache-2.0: a&lt;b" in said and "Safety checker: none" in said
    published = desk.explain(form(preset="show1"))["machine"]
    assert "Safety checker: CompVis/stable-diffusion-safety-checker." in published


def test_the_page_says_that_the_safety_checker_is_switched_off(tmp_path: Path, engine: Any) -> None:
    (tmp_path / "mine.toml").write_text('extends = "show1"\nsafety = false\n')
    desk = Desk(engine, load_preset(tmp_path / "mine.toml"), tmp_path)
    assert "switched off (safety = false)" in desk.explain(form(preset="mine"))["machine"]


def test_a_link_carries_the_form() -> None:
    presets = Presets(Preset())
    asked = form(prompt="a red & <green> car", seed=7.0) | {"translation.strength": 0.5, "no_noise": True}
    query = link(asked, presets)
    values = followed(dict(parse_qsl(query[1:])), presets)
    assert values["prompt"] == "a red & <green> car" and values["seed"] == 7 and values["no_noise"]
    assert values["translation.strength"] == 0.5 and values["translation.cap"] == 900
    assert "cap" not in query  # it is the preset's own
    assert followed({"utm": "x"}, presets) == {}
    alone = followed({"seed": "5"}, presets)
    assert alone["seed"] == 5 and alone["prompt"] == example_prompts()[0]
    for bad in ({"seed": "x"}, {"preset": "../../etc"}, {"superres.snr": "-1"}):
        with pytest.raises(ValueError, match="must be"):
            followed({"prompt": "a car", **bad}, presets)


def test_a_link_that_is_wrong_is_said_and_the_page_opens(desk: Desk) -> None:
    shown = desk.arrive(None, {"prompt": "a car", "seed": "-4"})
    assert "seed = &quot;-4&quot;" in shown["notices"] and shown["visitor"]


def test_a_recipe_restores_every_knob(tmp_path: Path, desk: Desk) -> None:
    changes = {"translation.strength": 0.55, "superres.snr": "inf", "keyframes.steps": 9}
    recipe = {"prompt": "a car", "seed": 2**40, "preset": to_dict(override(Preset(), changes))}
    values, words = restored(recipe, Presets(Preset()))
    assert set(values) == set(FIELDS) and words == "Every knob is set as it was."
    assert (values["translation.strength"], values["keyframes.steps"], values["seed"]) == (0.55, 9, 2**40)
    assert values["no_noise"] and values["prompt"] == "a car"
    other = recipe | {"preset": recipe["preset"] | {"name": "mine", "fps": 5}, "source": {"name": "x"}}
    _, words = restored(other, Presets(Preset()))
    assert '"mine" is not on this server' in words and "no knob for fps" in words and "given video" in words

    made = write_video(tmp_path / "a.mp4", FRAMES, 8.0, recipe)
    assert desk.restore_file(made)["keyframes.steps"] == 9
    for bad in (
        None,
        {"prompt": "x"},
        {"prompt": "", "seed": 0, "preset": {}},
        {"preset": 3, "prompt": "x", "seed": 1},
    ):
        assert set(desk.restore(bad)) == {"notices"}
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    assert "no video" in desk.restore_file(tmp_path / "no.mp4")["notices"]


def test_presets_are_offered_by_name_alone(tmp_path: Path) -> None:
    presets = Presets(from_dict({"name": "mine"}))
    assert presets.names[0] == "mine" and "quick" in presets.names
    assert presets.get("mine").name == "mine" and presets.get("quick").name == "quick"
    (tmp_path / "other.toml").write_text('name = "other"')
    with pytest.raises(ValueError, match="must be one of"):
        presets.get(str(tmp_path / "other.toml"))


def test_arms_of_ablations_are_offered_where_their_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there/unet").mkdir(parents=True)
    (tmp_path / "there/unet/model.safetensors").touch()
    (tmp_path / "begun").mkdir()  # by a training
    places = {"assets/ablations/no_expert": None, "assets/ablations/augmentation": tmp_path / "begun"}
    monkeypatch.setattr("mpl.ui.form.locate", lambda source: places.get(source, tmp_path / "there"))
    offered = Presets(Preset()).names
    assert set(Presets(Preset()).names) == set(preset_names()) - {"ablations/no_expert", "ablations/augmentation"}
    assert "ablations/expert" in offered and "show1" in offered  # its message says what to download


@pytest.fixture
def ablations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Presets:
    """Presets on a machine that has the weights of all arms."""
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("mpl.ui.form.locate", lambda source: tmp_path)
    return Presets(Preset())


def test_an_arm_of_an_ablation_keeps_the_name_that_it_is_offered_by(ablations: Presets) -> None:
    arm = ablations.get("ablations/no_expert")
    assert arm == replace(load_preset("ablations/no_expert"), name="ablations/no_expert")
    query = link(form(**knobs(arm), preset=arm.name), ablations)
    assert followed(dict(parse_qsl(query[1:])), ablations)["preset"] == arm.name


def test_a_recipe_of_an_ablation_is_restored_by_either_name(ablations: Presets) -> None:
    """Command lines and former pages call it as its file does."""
    arm = load_preset("ablations/no_expert")
    for name in ("no_expert", "ablations/no_expert"):
        recipe = {"prompt": "a car", "seed": 1, "preset": to_dict(replace(arm, name=name))}
        values, words = restored(recipe, ablations)
        assert (values["preset"], words) == ("ablations/no_expert", "Every knob is set as it was.")


def test_sliders_hold_whatever_is_set_from_outside(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both tabs; Gradio refuses a form with a slider beyond its end."""
    from gradio.state_holder import SessionState

    from mpl.ui.page import build

    page = build(desk, Preset())
    browser, numbers = SessionState(page), (0.005, 3, 100.0)
    far = override(Preset(), dict(zip(SLIDERS, numbers, strict=True)))
    monkeypatch.setattr(desk.presets, "get", lambda name: far)

    async def choose_and_ask() -> list[Any]:
        asked = []
        for choose in (fn for fn in page.fns.values() if fn.name == "choose"):
            await page.process_api(choose, ["quick"], state=browser)
        for ask in (fn for fn in page.fns.values() if fn.name == "ask"):
            shown = [browser.config_values[part._id]["props"].get("value") for part in ask.inputs]
            asked += await page.preprocess_data(ask, shown, browser)
        return asked

    asked = asyncio.run(choose_and_ask())
    assert [asked.count(number) for number in numbers] == [3, 3, 3]


def test_sliders_span_what_all_presets_hold() -> None:
    from mpl.ui.create import SLIDER_TEXTS

    for name in preset_names():
        for key, (_, _, low, high, _) in SLIDER_TEXTS.items():
            assert low <= knobs(load_preset(name))[key] <= high, f"{name}: {key}"


def test_no_noise_is_the_end_of_the_slider() -> None:
    values = knobs(from_dict({"superres": {"snr": "inf"}}))
    assert values["no_noise"] and values["superres.snr"] == 30.0


def test_examples_are_in_the_models_words() -> None:
    from mpl.storybook.captions import VOCABULARY, tokens

    assert example_prompts()
    for prompt in example_prompts():
        assert set(tokens(prompt)) <= set(VOCABULARY), prompt
