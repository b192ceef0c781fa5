"""A child process that generates tokens with any model that transformers knows.

`python -m storyteller.model.transformers_server FOLDER THREADS` reads JSON requests, one a line, and answers each
with one JSON object; the first object, `{"ready": true}`, comes when the model is loaded. A decoding has rows, each a
story with its own random numbers.

    {"decoding": 0, "rows": [0, 1], "windows": [[1, 2], [7]],             ->  {"tokens": [5, 8]}      a new decoding
     "seeds": [7, 8], "sampler": {"temperature": 0.8, ...}}
    {"decoding": 0, "rows": [0, 1]}                                       ->  {"tokens": [9, 4]}      their next tokens
    {"decoding": 0, "rows": [1]}                                          ->  {"tokens": [2]}         row 0 has ended
    {"decoding": 0, "rows": [1], "windows": [[5, 9]]}                     ->  {"tokens": [3]}         another window
    {"decoding": 0, "windows": [[5, 9]], "limit": 20, "eos_ids": [2],     ->  {"stories": [[3, 6]]}   a beam search
     "sampler": {"beams": 4, ...}}
    {"decoding": 0, "close": true}                                        ->  {}

A sampler has the fields of `SamplingParams`. A failure is answered with `{"error": "..."}` and ends the process. Code
and pickles that come with a model are never executed. Weights that a model lacks are an error, where transformers would
initialise them at random.
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

from storyteller.config.configs import SamplingParams


@dataclass
class _RowState:
    """One story: its random numbers and the tokens generated so far."""

    generator: torch.Generator
    generated: list[int] = field(default_factory=list)


@dataclass
class _BatchGroup:
    """Rows that go through the model together."""

    rows: list[int]
    pending: Tensor
    """(B, T) token ids that the model has not processed yet; shorter windows are padded on the left."""
    mask: Tensor | None
    """(B, T) 1 for tokens and 0 for padding, with all that the model has processed; None without padding."""
    past: Any = None
    """The cached keys and values of the processed tokens."""


@dataclass
class _DecodingState:
    options: SamplingParams
    rows: dict[int, _RowState]
    groups: list[_BatchGroup] = field(default_factory=list)


class ServedModel:
    """A model of transformers, and whether it handles padding, so that windows of any lengths can share a batch."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.ignores_padding = self._ignores_padding()

    def group(self, rows: Sequence[int], windows: Sequence[Sequence[int]]) -> list[_BatchGroup]:
        """Groups the rows: into one padded group if the model ignores padding, else into one for each length."""
        longest = max(map(len, windows))
        if self.ignores_padding and any(len(window) < longest for window in windows):
            pad = [[0] * (longest - len(window)) for window in windows]
            pending = torch.tensor([[*left, *window] for left, window in zip(pad, windows, strict=True)])
            mask = torch.tensor([[0] * len(left) + [1] * (longest - len(left)) for left in pad])
            return [_BatchGroup(list(rows), pending, mask)]
        groups = []
        for length in sorted({len(window) for window in windows}):
            same = [i for i, window in enumerate(windows) if len(window) == length]
            groups.append(_BatchGroup([rows[i] for i in same], torch.tensor([list(windows[i]) for i in same]), None))
        return groups

    @torch.inference_mode()
    def logits(self, group: _BatchGroup) -> Tensor:
        """Processes the pending tokens. Returns the logits (B, V) of the token after them."""
        extra: dict[str, Tensor] = {}
        if group.mask is not None:
            extra["attention_mask"] = group.mask
            if "position_ids" in inspect.signature(self.model.forward).parameters:
                # Positions count from the first token that is not padding.
                positions = (group.mask.cumsum(-1) - 1).clamp(min=0)
                extra["position_ids"] = positions[:, -group.pending.shape[1] :]
        output = self.model(input_ids=group.pending, past_key_values=group.past, use_cache=True, **extra)
        group.past = output.past_key_values
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _ignores_padding(self) -> bool:
        """Tests whether a padded window gets the same logits as alone; some architectures attend to padding.

        Two steps are compared, since a model may handle the padding of its first input but not of its cache.
        """
        short, long = [3, 1], [1, 2, 3, 4, 2]
        try:
            alone = _BatchGroup([0], torch.tensor([short]), None)
            padded = torch.tensor([[0, 0, 0, *short], long])
            batch = _BatchGroup([0, 1], padded, torch.tensor([[0, 0, 0, 1, 1], [1] * 5]))
            for _ in range(2):
                expected, found = self.logits(alone)[0], self.logits(batch)[0]
                if not torch.allclose(expected, found, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
                    return False
                _append(alone, [2])
                _append(batch, [2, 3])
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return False
        return True


def load(folder: str) -> Any:
    """Loads a model in fp32 and evaluation mode. Raises OSError, ValueError or RuntimeError if it is incomplete."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found := sorted(map(str, info.get(problem) or ())):
            raise ValueError(f"{problem.replace('_', ' ')}: {', '.join(found[:3])}")
    broken = next((name for name, values in model.named_parameters() if not bool(values.isfinite().all())), None)
    if broken is not None:
        raise ValueError(f"{broken} has non-finite values")
    return model.eval()


def next_tokens(model: ServedModel, decoding: _DecodingState, rows: Sequence[int]) -> list[int]:
    """Returns the next token of each of these rows. Other rows are dropped."""
    tokens: dict[int, int] = {}
    for group in decoding.groups:
        _select(group, [row for row in group.rows if row in rows])
        if not group.rows:
            continue
        for row, logits in zip(group.rows, model.logits(group), strict=True):
            state = decoding.rows[row]
            tokens[row] = draw(logits, decoding.options, state.generated, state.generator)
            state.generated.append(tokens[row])
        _append(group, [tokens[row] for row in group.rows])
    decoding.groups = [group for group in decoding.groups if group.rows]
    return [tokens[row] for row in rows]


def _append(group: _BatchGroup, tokens: list[int]) -> None:
    """Makes each row's token the next input of the model."""
    group.pending = torch.tensor([[token] for token in tokens])
    if group.mask is not None:
        group.mask = torch.cat([group.mask, torch.ones_like(group.pending)], dim=1)


def _select(group: _BatchGroup, rows: list[int]) -> None:
    """Keeps only these rows, and their part of the cache."""
    if rows and rows != group.rows:
        indices = torch.tensor([group.rows.index(row) for row in rows])
        if group.past is not None:
            group.past.batch_select_indices(indices)
        group.pending = group.pending[indices]
        group.mask = None if group.mask is None else group.mask[indices]
    group.rows = rows


def penalise(logits: Tensor, options: SamplingParams, generated: Sequence[int]) -> Tensor:
    """Applies the repetition penalty to `logits` (V,), and bans tokens that would repeat an n-gram of `generated`."""
    if not generated or (options.repetition_penalty == 1 and not options.no_repeat_ngram):
        return logits
    logits = logits.clone()
    if options.repetition_penalty != 1:
        repeated = torch.tensor(sorted(set(generated)))
        values = logits[repeated]
        # Dividing a negative logit would make the token more likely (Keskar et al. 2019, as transformers has it).
        penalty = options.repetition_penalty
        logits[repeated] = torch.where(values > 0, values / penalty, values * penalty)
    if size := options.no_repeat_ngram:
        last = list(generated[len(generated) - size + 1 :])
        ngrams = (list(generated[i : i + size]) for i in range(len(generated) - size + 1))
        if banned := {ngram[-1] for ngram in ngrams if ngram[:-1] == last}:
            logits[torch.tensor(sorted(banned))] = -torch.inf
    return logits


def draw(logits: Tensor, options: SamplingParams, generated: Sequence[int], generator: torch.Generator) -> int:
    """Samples a token from `logits` (V,), after penalties, by temperature, top-k, top-p and min-p, in this order.

    The order is that of transformers; each step filters the distribution that the previous one left.
    """
    logits = penalise(logits, options, generated)
    if options.temperature == 0:
        return int(logits.argmax())
    k = min(options.top_k, len(logits)) or len(logits)
    logits, order = torch.topk(logits / options.temperature, k)
    probabilities = logits.softmax(-1)
    if options.top_p < 1:
        # A token stays while those before it sum to less than top_p; so the most likely one always stays.
        probabilities = probabilities * (probabilities.cumsum(-1) - probabilities < options.top_p)
    if options.min_p:
        probabilities = probabilities * (probabilities >= options.min_p * probabilities[0])
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


@torch.inference_mode()
def search(model: ServedModel, windows: Sequence[Sequence[int]], request: dict[str, Any]) -> list[list[int]]:
    """Returns for each window the tokens that beam search finds after it."""
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    options, limit, eos_ids = SamplingParams(**request["sampler"]), request["limit"], request["eos_ids"]

    class GeneratedTokensPenalty(LogitsProcessor):  # type: ignore[misc]
        """Penalises generated tokens only; the processors of transformers count the prompt as well."""

        def __init__(self, prompt_tokens: int) -> None:
            self.prompt_tokens = prompt_tokens

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            generated = input_ids[:, self.prompt_tokens :].tolist()
            rows = zip(scores, generated, strict=True)
            return torch.stack([penalise(row, options, tokens) for row, tokens in rows])

    stories = []
    for window in windows:
        ids = torch.tensor([list(window)])
        settings = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            num_beams=options.beams,
            early_stopping=True,
            eos_token_id=eos_ids or None,
            pad_token_id=eos_ids[0] if eos_ids else 0,
        )
        found = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=LogitsProcessorList([GeneratedTokensPenalty(len(window))]),
        )
        stories.append([int(token) for token in found[0, len(window) :]])
    return stories


def answer(model: ServedModel, decodings: dict[int, _DecodingState], request: dict[str, Any]) -> dict[str, Any]:
    """Executes one request."""
    number = request["decoding"]
    if request.get("close"):
        decodings.pop(number, None)
        return {}
    if "limit" in request:
        return {"stories": search(model, request["windows"], request)}
    rows = request["rows"]
    if "seeds" in request:
        seeds = zip(rows, request["seeds"], strict=True)
        states = {row: _RowState(torch.Generator().manual_seed(seed)) for row, seed in seeds}
        decodings[number] = _DecodingState(SamplingParams(**request["sampler"]), states)
    decoding = decodings[number]
    if "windows" in request:
        decoding.groups = model.group(rows, request["windows"])
    return {"tokens": next_tokens(model, decoding, rows)}


def main(folder: str, threads: int) -> None:
    """Answers requests until standard input ends."""
    # Answers get a descriptor of their own, and standard output becomes standard error: a library that prints cannot
    # break the protocol.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if threads:
        torch.set_num_threads(threads)
    try:
        model = ServedModel(load(folder))
        decodings: dict[int, _DecodingState] = {}
        _send(answers, {"ready": True})
        for line in sys.stdin:
            _send(answers, answer(model, decodings, json.loads(line)))
    except Exception as error:  # noqa: BLE001  every failure is reported to the parent
        _send(answers, {"error": str(error).partition("\n")[0] or type(error).__name__})


def _send(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
