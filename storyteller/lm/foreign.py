"""A child process that tells tokens from any model that transformers knows: `python -m storyteller.lm.foreign FOLDER`.

A JSON object a line: first `{"ready": true}`, then for each request one answer.

    {"voice": 0, "window": [1, 2], "seed": 7, "temperature": 0.8, ...}   ->  {"token": 5}     a new telling
    {"voice": 0}                                                         ->  {"token": 9}     the next token
    {"voice": 0, "window": [5, 9]}                                       ->  {"token": 3}     from another window
    {"voice": 0, "close": true}                                          ->  {}

Anything that goes wrong is `{"error": "..."}`. No code and no pickle of the model's is ever run, and weights that a
model lacks are an error, where transformers would fill in random ones.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

import torch
from torch import Tensor


@dataclass
class Draws:
    """How one telling draws its tokens."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    generator: torch.Generator


@dataclass
class _Voice:
    """One telling."""

    draws: Draws
    told: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    """Tokens that the model has not seen yet."""
    past: Any = None
    """Keys and values of those it has."""


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


@torch.inference_mode()
def next_token(model: Any, voice: _Voice) -> int:
    """Show the model what it has not seen, and draw the token after it."""
    output = model(input_ids=torch.tensor([voice.pending]), past_key_values=voice.past, use_cache=True)
    voice.past = output.past_key_values
    token = draw(output.logits[0, -1].float(), voice.draws, voice.told)
    voice.told.append(token)
    voice.pending = [token]
    return token


def draw(logits: Tensor, how: Draws, told: list[int]) -> int:
    """A token from `logits` (V,): penalty on what was told, then temperature, top-k, top-p, in this order."""
    if how.repetition_penalty != 1 and told:
        again = torch.tensor(sorted(set(told)))
        seen = logits[again]
        logits = logits.clone()
        logits[again] = torch.where(seen > 0, seen / how.repetition_penalty, seen * how.repetition_penalty)
    if how.temperature == 0:
        return int(logits.argmax())
    logits, order = torch.sort(logits / how.temperature, descending=True, stable=True)
    if how.top_k:
        logits, order = logits[: how.top_k], order[: how.top_k]
    probabilities = logits.softmax(-1)
    if how.top_p < 1:
        # A token stays while those before it have not reached top_p; the likeliest always does.
        probabilities = probabilities * (probabilities.cumsum(-1) - probabilities < how.top_p)
    return int(order[torch.multinomial(probabilities, 1, generator=how.generator)])


def answer(model: Any, voices: dict[int, _Voice], request: dict[str, Any]) -> dict[str, Any]:
    """Do what one request asks."""
    number = request["voice"]
    if request.get("close"):
        voices.pop(number, None)
        return {}
    if "seed" in request:
        options = {key: request[key] for key in ("temperature", "top_k", "top_p", "repetition_penalty")}
        voices[number] = _Voice(Draws(**options, generator=torch.Generator().manual_seed(request["seed"])))
    voice = voices[number]
    if "window" in request:
        voice.pending, voice.past = request["window"], None
    return {"token": next_token(model, voice)}


def main(folder: str, threads: int) -> None:
    """Answer requests until standard input ends."""
    # Whatever a library prints must not fall among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if threads:
        torch.set_num_threads(threads)
    try:
        model = load(folder)
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
