"""Step 0: prompts to embeddings, and words that nobody taught."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from reference_stages import FakeWeights
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from mpl.options import TextOptions
from mpl.stages.text import encode, unknown_words

WORDS = ["a", "red", "blue", "car", "boat", "crosses", "left", "at", "sunset", "42"]


def word_tokenizer(limit: int = 64) -> PreTrainedTokenizerFast:
    names = ["<pad>", "<unk>", "</s>", *WORDS]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=limit, **special)


@pytest.fixture(scope="module")
def weights() -> FakeWeights:
    torch.manual_seed(0)
    t5 = T5EncoderModel(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    size = {"hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=16, max_position_embeddings=8, eos_token_id=2, **size))
    tokenizers = {"text": word_tokenizer(), "clip": word_tokenizer(8)}
    return FakeWeights({"text": t5.eval(), "clip": clip.eval()}, tokenizers=tokenizers)


def test_states_have_their_shapes_and_no_gradients(weights):
    states = encode("a red car", TextOptions(tokens=12), weights)
    assert states.t5.shape == states.t5_negative.shape == (1, 12, 16)
    assert states.clip.shape == states.clip_negative.shape == (1, 8, 24)  # its tokenizer allows 8
    assert states.t5.dtype == torch.float32 and not states.t5.requires_grad
    assert (states.truncated, states.truncated_clip) == ("", "")
    assert weights.borrowed == []


def test_stage_4s_encoder_is_left_alone_where_it_is_not_needed(weights):
    only_t5 = FakeWeights({"text": weights.models["text"]}, tokenizers={"text": word_tokenizer()})
    states = encode("a red car", TextOptions(tokens=12), only_t5, translation=False)
    assert states.clip is None and states.clip_negative is None
    assert torch.equal(states.t5, encode("a red car", TextOptions(tokens=12), weights).t5)


def test_t5_is_left_alone_for_stage_4_alone(weights):
    only_clip = FakeWeights({"clip": weights.models["clip"]}, tokenizers={"clip": word_tokenizer(8)})
    states = encode("a red car crosses left at sunset 42", TextOptions(tokens=12), only_clip, pixels=False)
    assert states.t5 is None and states.t5_negative is None
    assert (states.truncated, states.truncated_clip) == ("", "42")
    assert torch.equal(states.clip, encode("a red car crosses left at sunset 42", TextOptions(tokens=12), weights).clip)


def test_case_and_spaces_do_not_matter_but_words_do(weights):
    options = TextOptions(tokens=12)
    plain = encode("a red car", options, weights)
    assert torch.equal(plain.t5, encode("  A Red\n car ", options, weights).t5)
    assert not torch.equal(plain.t5, encode("a blue car", options, weights).t5)
    assert not torch.equal(plain.clip, encode("a blue car", options, weights).clip)


def test_each_negative_prompt_reaches_its_own_encoder(weights):
    plain = encode("a car", TextOptions(tokens=12), weights)
    pixel = encode("a car", TextOptions(tokens=12, negative_prompt="blue"), weights)
    latent = encode("a car", TextOptions(tokens=12, translation_negative_prompt="blue"), weights)
    assert not torch.equal(plain.t5_negative, pixel.t5_negative)
    assert torch.equal(plain.t5_negative, latent.t5_negative)
    assert torch.equal(plain.clip_negative, pixel.clip_negative)
    assert not torch.equal(plain.clip_negative, latent.clip_negative)


def test_t5_gets_the_attention_mask_and_clip_does_not():
    given = {}

    def encoder(name):
        def call(ids, **kwargs):
            given[name] = (ids, kwargs)
            return SimpleNamespace(last_hidden_state=torch.zeros(*ids.shape, 4))

        return call

    fake = FakeWeights(
        {"text": encoder("text"), "clip": encoder("clip")},
        tokenizers={"text": word_tokenizer(), "clip": word_tokenizer()},
    )
    encode("a red car", TextOptions(tokens=6, negative_prompt="boat"), fake)
    ids, kwargs = given["text"]
    assert ids.tolist() == [[3, 4, 6, 2, 0, 0], [7, 2, 0, 0, 0, 0]]
    assert kwargs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert given["clip"][1] == {}


def test_what_is_over_the_token_limit_is_said(weights):
    states = encode("a red car crosses left at sunset", TextOptions(tokens=5), weights)
    assert states.truncated == "left at sunset" == states.truncated_clip  # the fifth token ends the text
    states = encode("a red car crosses left at sunset", TextOptions(tokens=8), weights)
    assert states.truncated == ""
    states = encode("a red car crosses, Zebra!", TextOptions(tokens=5), weights)
    assert (states.truncated, states.truncated_clip) == (", zebra!", ", Zebra!")  # unknown words too
    states = encode("a red car crosses left at sunset 42", TextOptions(tokens=20), weights)
    assert (states.truncated, states.truncated_clip) == ("", "42")


@pytest.mark.parametrize("prompt", ["", "  \n", "a" * 10_000])
def test_empty_and_endless_prompts_are_refused(prompt, weights):
    with pytest.raises(ValueError, match="1000"):
        encode(prompt, TextOptions(), weights)


def test_unknown_words_come_with_the_nearest_known_one():
    found = unknown_words("A Bleu cart, crosses sunsets; qqq qqq at 42!", word_tokenizer())
    assert found == [("bleu", "blue"), ("cart", "car"), ("sunsets", "sunset"), ("qqq", None)]
    assert unknown_words("a red car", word_tokenizer()) == []


def test_a_word_that_is_being_typed_is_not_unknown_yet():
    tokenizer = word_tokenizer()
    assert unknown_words("a re", tokenizer, unfinished=True) == [] != unknown_words("a re", tokenizer)
    assert [word for word, _ in unknown_words("a re ", tokenizer, unfinished=True)] == ["re"]  # and now it is finished
    assert [word for word, _ in unknown_words("a qq", tokenizer, unfinished=True)] == ["qq"]  # nothing begins so


def test_long_prompts_are_read_to_their_end_after_an_encoding(weights):
    encode("a red car", TextOptions(tokens=4), weights)  # the tokenizer remembers that it once cut
    assert unknown_words("a red car crosses left at dusk", weights.tokenizers["text"]) == [("dusk", None)]


def test_tokenizers_of_word_pieces_know_everything():
    core = Tokenizer(models.BPE({"<unk>": 0, "a": 1, "b": 2}, [], unk_token="<unk>"))
    assert unknown_words("zebra", PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")) == []
