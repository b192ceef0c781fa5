"""Tokenizers: trained, loaded, saved so that transformers reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.data import bundled
from storyteller.data import tokenizer as tokenizers
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import TokenizerError, UsageError
from tests.conftest import SHARED

STORIES = [bundled.story(i) for i in range(300)]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return tokenizers.train_bpe(STORIES, 600, 1 << 20, lambda _: None)


def test_a_trained_tokenizer_has_the_size_asked_for_and_ends_text_with_token_0(trained: Tokenizer) -> None:
    assert trained.vocab_size == 600
    assert trained.end_id == 0
    assert trained.end_of_text == "<|endoftext|>"


def test_training_twice_gives_the_same_tokenizer(trained: Tokenizer) -> None:
    again = tokenizers.train_bpe(STORIES, 600, 1 << 20, lambda _: None)
    assert again.sha256 == trained.sha256


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200)
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    assert _SMALL.decode(_SMALL.encode([text])[0]) == text


_SMALL = tokenizers.train_bpe(STORIES[:50], 300, 1 << 20, lambda _: None)


def test_a_special_token_in_a_story_is_plain_text(trained: Tokenizer) -> None:
    ids = trained.encode(["The end.<|endoftext|> No."])[0]
    assert trained.end_id not in ids
    assert trained.decode(ids) == "The end.<|endoftext|> No."


def test_training_stops_reading_after_the_bytes_asked_for() -> None:
    heard: list[float] = []
    taken = []

    def stories() -> object:
        for story in STORIES:
            taken.append(story)
            yield story

    tokenizers.train_bpe(stories(), 300, 2000, heard.append)  # type: ignore[arg-type]
    assert 2000 <= sum(len(s) for s in taken) < 2000 + max(map(len, STORIES))
    assert heard == sorted(heard) and heard[-1] == 1.0


def test_transformers_reads_the_saved_folder_to_the_same_ids(trained: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    trained.save(tmp_path, context=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for story in STORIES[:20]:
        assert theirs(story)["input_ids"] == trained.encode([story])[0]
    assert theirs.eos_token_id == theirs.bos_token_id == theirs.pad_token_id == 0
    assert theirs.model_max_length == 64


def test_a_saved_tokenizer_loads_equal(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path, context=64)
    loaded = tokenizers.load(tmp_path)
    assert (loaded.vocab_size, loaded.end_id, loaded.sha256) == (600, 0, trained.sha256)


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json: name a folder"):
        tokenizers.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(TokenizerError, match="is no tokenizer"):
        tokenizers.load(tmp_path)


def test_a_tokenizer_that_lacks_its_end_of_text_is_refused(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path, context=64)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}), encoding="utf-8")
    with pytest.raises(TokenizerError, match="has no token </s>"):
        tokenizers.load(tmp_path)


def test_a_word_that_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match="invalid value bpee for --tokenizer: expected bpe, gpt2, or a folder"):
        tokenizers.check("bpee")


def test_gpt2_without_the_hub_says_what_else_works() -> None:
    with pytest.raises(TokenizerError, match="--tokenizer bpe"):
        tokenizers.open_tokenizer("gpt2")


@pytest.mark.skipif(not (SHARED / "gpt2").is_dir(), reason="needs the GPT-2 tokenizer beside the project")
def test_gpt2s_own_folder_gives_the_published_ids() -> None:
    gpt2 = tokenizers.open_tokenizer(str(SHARED / "gpt2"))
    assert gpt2.encode(["Once upon a time"]) == [[7454, 2402, 257, 640]]
    assert (gpt2.vocab_size, gpt2.end_id) == (50257, 50256)
