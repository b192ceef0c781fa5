"""A child process that tells tokens from any model that transformers knows: `python -m storyteller.model.transformers_server FOLDER`.

A JSON object a line: first `{"ready": true}`, then for each request one answer. A telling ("voice") has rows, each a
story of its own with its own random draws.

    {"voice": 0, "rows": [0, 1], "windows": [[1, 2], [7]],                ->  {"tokens": [5, 8]}      a new telling
     "seeds": [7, 8], "draws": {"temperature": 0.8, ...}}
    {"voice": 0, "rows": [0, 1]}                                          ->  {"tokens": [9, 4]}      their next tokens
    {"voice": 0, "rows": [1]}                                             ->  {"tokens": [2]}         row 0 is over
    {"voice": 0, "rows": [1], "windows": [[5, 9]]}                        ->  {"tokens": [3]}         another window
    {"voice": 0, "rows": [1], "windows": [[5, 9]], "beams": 4,            ->  {"stories": [[3, 6]]}   a search
     "limit": 20, "ends": [2], "draws": {...}}
    {"voice": 0, "close": true}                                           ->  {}

Anything that goes wrong is `{"error": "..."}`. No code and no pickle of the model's is ever run, and weights that a
model lacks are an error, where transformers would fill in random ones.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """How one telling draws its tokens; the fields are those of `config.Sample`."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0


@dataclass
class _RowState:
    """One story."""

    generator: torch.Generator
    told: list[int] = field(default_factory=list)


@dataclass
class _BatchGroup:
    """Rows that the model is shown at once."""

    rows: list[int]
    pending: Tensor
    """(B, T) tokens that the model has not seen yet; shorter windows are padded on the left."""
    mask: Tensor | None
    """(B, T) 1 where there is a token, all that the model has seen included; None where nothing is padded."""
    past: Any = None
    """Keys and values of the tokens it has seen."""


@dataclass
class _Voice:
    """One telling."""

    draws: Draws
    rows: dict[int, _RowState]
    groups: list[_BatchGroup] = field(default_factory=list)


class ServedModel:
    """A model that transformers knows, and whether it may be shown windows of different lengths at once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.pads_well = self._pads_well()

    def group(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> list[_BatchGroup]:
        """The rows in groups: one, where the model takes padding for nothing, else one for each length."""
        longest = max(map(len, windows))
        if self.pads_well and any(len(window) < longest for window in windows):
            pad = [[0] * (longest - len(window)) for window in windows]
            pending = torch.tensor([[*left, *window] for left, window in zip(pad, windows, strict=True)])
            mask = torch.tensor([[0] * len(left) + [1] * (longest - len(left)) for left in pad])
            return [_BatchGroup(list(rows), pending, mask)]
        lengths = sorted({len(window) for window in windows})
        alike = [[i for i, window in enumerate(windows) if len(window) == length] for length in lengths]
        return [
            _BatchGroup([rows[i] for i in indices], torch.tensor([list(windows[i]) for i in indices]), None)
            for indices in alike
        ]

    @torch.inference_mode()
    def logits(self, group: _BatchGroup) -> Tensor:
        """(B, V) for the token after what is pending, which counts as seen from now on."""
        extra: dict[str, Tensor] = {}
        if group.mask is not None:
            extra["attention_mask"] = group.mask
            if "position_ids" in inspect.signature(self.model.forward).parameters:
                places = (group.mask.cumsum(-1) - 1).clamp(min=0)
                extra["position_ids"] = places[:, -group.pending.shape[1] :]
        output = self.model(input_ids=group.pending, past_key_values=group.past, use_cache=True, **extra)
        group.past = output.past_key_values
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _pads_well(self) -> bool:
        """Whether a short window beside a longer one gets the logits that it gets alone: some models see padding."""
        short, long = [3, 1], [1, 2, 3, 4, 2]
        try:
            alone, beside = (
                _BatchGroup([0], torch.tensor([short]), None),
                _BatchGroup([0, 1], torch.tensor([[0, 0, 0, *short], long]), torch.tensor([[0, 0, 0, 1, 1], [1] * 5])),
            )
            for _ in range(2):
                expected, found = self.logits(alone)[0], self.logits(beside)[0]
                if not torch.allclose(expected, found, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
                    return False
                _go_on(alone, [0], [2])
                _go_on(beside, [0, 1], [2, 3])
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return False
        return True


def load(folder: str) -> Any:
    """The model, for evaluation, in fp32. Raises OSError, ValueError or RuntimeError where it cannot be had whole."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if off := sorted(map(str, info.get(what) or ())):
            raise ValueError(f"{what.replace('_', ' ')}: {', '.join(off[:3])}")
    broken = next((name for name, values in model.named_parameters() if not bool(values.isfinite().all())), None)
    if broken is not None:
        raise ValueError(f"{broken} holds values that are no numbers")
    return model.eval()


def next_tokens(model: ServedModel, voice: _Voice, rows: Sequence[int]) -> dict[int, int]:
    """Show the model what it has not seen of these rows, and draw the token after it; other rows are forgotten."""
    told: dict[int, int] = {}
    for group in voice.groups:
        _keep(group, [row for row in group.rows if row in rows])
        if not group.rows:
            continue
        tokens = []
        for row, logits in zip(group.rows, model.logits(group), strict=True):
            story = voice.rows[row]
            tokens.append(draw(logits, voice.draws, story.told, story.generator))
            story.told.append(tokens[-1])
            told[row] = tokens[-1]
        _go_on(group, group.rows, tokens)
    voice.groups = [group for group in voice.groups if group.rows]
    return told


def _go_on(group: _BatchGroup, rows: list[int], tokens: list[int]) -> None:
    """Let each row's token be what the model sees next."""
    group.rows, group.pending = rows, torch.tensor([[token] for token in tokens])
    if group.mask is not None:
        group.mask = torch.cat([group.mask, torch.ones_like(group.pending)], dim=1)


def _keep(group: _BatchGroup, rows: list[int]) -> None:
    """Forget all but these rows."""
    if rows == group.rows or not rows:
        group.rows = rows
        return
    indices = torch.tensor([group.rows.index(row) for row in rows])
    if group.past is not None:
        group.past.batch_select_indices(indices)
    group.pending = group.pending[indices]
    group.mask = None if group.mask is None else group.mask[indices]
    group.rows = rows


def allowed(logits: Tensor, how: Draws, told: Sequence[int]) -> Tensor:
    """`logits` (V,) after what was told: penalised, and without the tokens that would tell a run of them again."""
    if not told or (how.repetition_penalty == 1 and not how.no_repeat_ngram):
        return logits
    logits = logits.clone()
    if how.repetition_penalty != 1:
        again = torch.tensor(sorted(set(told)))
        seen = logits[again]
        logits[again] = torch.where(seen > 0, seen / how.repetition_penalty, seen * how.repetition_penalty)
    if size := how.no_repeat_ngram:
        last = list(told[len(told) - size + 1 :])
        runs = (list(told[i : i + size]) for i in range(len(told) - size + 1))
        if banned := {run[-1] for run in runs if run[:-1] == last}:
            logits[torch.tensor(sorted(banned))] = -torch.inf
    return logits


def draw(logits: Tensor, how: Draws, told: Sequence[int], generator: torch.Generator) -> int:
    """A token from `logits` (V,): what was told looked back at, then temperature, top-k, top-p, min-p, in this order.

    The order is that of transformers; each of them looks at the probabilities that the one before it left.
    """
    logits = allowed(logits, how, told)
    if how.temperature == 0:
        return int(logits.argmax())
    k = min(how.top_k, len(logits)) or len(logits)
    logits, order = torch.topk(logits / how.temperature, k)
    probabilities = logits.softmax(-1)
    if how.top_p < 1:
        # A token stays while those before it have not reached top_p; the likeliest always does.
        probabilities = probabilities * (probabilities.cumsum(-1) - probabilities < how.top_p)
    if how.min_p:
        probabilities = probabilities * (probabilities >= how.min_p * probabilities[0])
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


@torch.inference_mode()
def search(model: ServedModel, windows: Sequence[Sequence[int]], request: dict[str, Any]) -> list[list[int]]:
    """The likeliest stories that beam search finds: their tokens after the windows."""
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    how, limit, ends = Draws(**request["draws"]), request["limit"], request["ends"]

    class LooksBack(LogitsProcessor):  # type: ignore[misc]
        """Looks back at what was told; transformers' own would look at the prompt too."""

        def __init__(self, prompt_tokens: int) -> None:
            self.prompt_tokens = prompt_tokens

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            told = input_ids[:, self.prompt_tokens :].tolist()
            return torch.stack([allowed(row, how, said) for row, said in zip(scores, told, strict=True)])

    stories = []
    for window in windows:
        ids = torch.tensor([list(window)])
        settings = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            num_beams=request["beams"],
            early_stopping=True,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
        )
        found = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=LogitsProcessorList([LooksBack(len(window))]),
        )
        stories.append([int(token) for token in found[0, len(window) :]])
    return stories


def answer(model: ServedModel, voices: dict[int, _Voice], request: dict[str, Any]) -> dict[str, Any]:
    """Do what one request asks."""
    number = request["voice"]
    if request.get("close"):
        voices.pop(number, None)
        return {}
    if "beams" in request:
        return {"stories": search(model, request["windows"], request)}
    rows = request["rows"]
    if "seeds" in request:
        told = {
            row: _RowState(torch.Generator().manual_seed(seed))
            for row, seed in zip(rows, request["seeds"], strict=True)
        }
        voices[number] = _Voice(Draws(**request["draws"]), told)
    voice = voices[number]
    if "windows" in request:
        voice.groups = model.group(rows, request["windows"])
    tokens = next_tokens(model, voice, rows)
    return {"tokens": [tokens[row] for row in rows]}


def main(folder: str, threads: int) -> None:
    """Answer requests until standard input ends."""
    # Whatever a library prints must not fall among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if threads:
        torch.set_num_threads(threads)
    try:
        model = ServedModel(load(folder))
        voices: dict[int, _Voice] = {}
        _say(answers, {"ready": True})
        for line in sys.stdin:
            _say(answers, answer(model, voices, json.loads(line)))
    except Exception as error:  # noqa: BLE001  whatever it is, the parent says it in one line
        _say(answers, {"error": str(error).partition("\n")[0] or type(error).__name__})


def _say(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
