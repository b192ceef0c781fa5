"""The prompts that models are compared and judged by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from storyteller.errors import UsageError
from storyteller.evaluation.prompts import bundled_prompts, load_prompts


def test_there_are_44_prompts_of_four_kinds_all_different() -> None:
    prompts = bundled_prompts()
    assert Counter(prompt.kind for prompt in prompts) == {
        "opening": 10,
        "consistency": 12,
        "reasoning": 11,
        "facts": 11,
    }
    assert len({prompt.text for prompt in prompts}) == 44
    assert load_prompts() == [prompt.text for prompt in prompts]


def test_each_stops_before_the_word_that_is_asked_for() -> None:
    for prompt in bundled_prompts():
        assert prompt.text == prompt.text.strip()
        assert prompt.text.isascii()
        assert prompt.text[-1].isalnum(), "a prompt ends in a word, so that the model's next is one with a space"


def test_prompts_of_a_file_come_in_its_order(tmp_path: Path) -> None:
    lines, objects = tmp_path / "mine.txt", tmp_path / "mine.jsonl"
    lines.write_text("The dragon\n\n# 7 dwarfs\nA cat", encoding="utf-8")
    objects.write_text('{"prompt": "One\\nTwo"}\n{"prompt": " "}\n', encoding="utf-8")
    assert load_prompts(lines) == ["The dragon", "# 7 dwarfs", "A cat"]
    assert load_prompts(objects) == ["One\nTwo"]


@pytest.mark.parametrize(("text", "problem"), [("\n \n", "no prompts in"), (None, "cannot be read")])
def test_a_file_without_a_prompt_is_refused_in_one_line(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "mine.txt"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=problem):
        load_prompts(path)
