"""Tokenizers: a byte-level BPE trained on the corpus, GPT-2's, or the one of a folder with a `tokenizer.json`.

A training story is end-of-text, its tokens, end-of-text. The end-of-text token is thus the beginning token as well, and
the model learns where stories end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.data.cleaning import END_OF_TEXT
from storyteller.errors import TokenizerError, invalid_value
from storyteller.text import safe_line

if TYPE_CHECKING:
    import tokenizers

GPT2_ID = "openai-community/gpt2"
FILES = ("tokenizer.json", "tokenizer_config.json")


class Tokenizer:
    """Converts text to token ids and back. Special tokens inside a story are encoded as plain text."""

    def __init__(self, fast: tokenizers.Tokenizer, end_of_text: str, kind: str) -> None:
        fast.no_padding()
        fast.no_truncation()
        # Otherwise a story that contains the text of the end-of-text token would be split in two.
        fast.encode_special_tokens = True
        end_id = fast.token_to_id(end_of_text)
        if end_id is None:
            raise TokenizerError(
                f"the tokenizer has no token {safe_line(end_of_text, 40)}", "its end-of-text must be a token of its own"
            )
        self._fast = fast
        self.kind = kind
        self.end_of_text = end_of_text
        self.end_id: int = end_id
        self.vocab_size: int = fast.get_vocab_size(with_added_tokens=True)

    def encode(self, stories: Sequence[str]) -> list[list[int]]:
        """Returns each story's token ids, without end-of-text tokens. Works on all cores."""
        return [encoding.ids for encoding in self._fast.encode_batch(list(stories), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids, without special tokens."""
        return str(self._fast.decode(list(ids), skip_special_tokens=True))

    def to_json(self) -> str:
        """Returns the contents of a `tokenizer.json`."""
        return str(self._fast.to_str())

    @property
    def sha256(self) -> str:
        """SHA-256 of `to_json()`, which identifies the tokenizer."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, folder: Path, context: int) -> None:
        """Writes the two files that `transformers.AutoTokenizer` loads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self.to_json(), encoding="utf-8")
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **dict.fromkeys(("bos_token", "eos_token", "pad_token"), self.end_of_text),
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def train_bpe(stories: Iterable[str], vocab_size: int, n_bytes: int, on_progress: Callable[[float], None]) -> Tokenizer:
    """Trains a byte-level BPE with GPT-2's pre-tokenization on the first `n_bytes` of `stories`.

    `on_progress` is called with the share of those bytes that was read, 0 to 1. The vocabulary is smaller than asked
    for where the corpus has no more pairs to merge.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    fast.train_from_iterator(_first_bytes(stories, n_bytes, on_progress), trainer)
    return Tokenizer(fast, END_OF_TEXT, "bpe")


def _first_bytes(stories: Iterable[str], n_bytes: int, on_progress: Callable[[float], None]) -> Iterator[str]:
    seen = 0
    for story in stories:
        yield story
        seen += len(story.encode())
        on_progress(min(seen / n_bytes, 1.0))
        if seen >= n_bytes:
            return


def load(folder: Path, kind: str = "folder") -> Tokenizer:
    """Loads a folder's `tokenizer.json`. Raises TokenizerError where it is missing or broken."""
    import tokenizers

    shown = safe_line(str(folder))
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"{shown} has no tokenizer.json", "name a folder that a tokenizer was saved in")
    try:
        fast = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        raise TokenizerError(
            f"{safe_line(str(path))} is no tokenizer ({safe_line(str(error), 80)})", "save it again or name another"
        ) from None
    return Tokenizer(fast, _end_of_text(folder, fast), kind)


def from_json(text: str, end_of_text: str, kind: str) -> Tokenizer | None:
    """Makes a tokenizer from the output of `to_json`; None where the text is not a valid one."""
    import tokenizers

    try:
        return Tokenizer(tokenizers.Tokenizer.from_str(text), end_of_text, kind)
    except Exception:  # noqa: BLE001  the library raises bare Exception
        return None


def _end_of_text(folder: Path, fast: tokenizers.Tokenizer) -> str:
    """Returns the end-of-text token that a tokenizer folder names, or one of the usual ones if the tokenizer has it."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            settings: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for key in ("eos_token", "bos_token"):
            token = settings.get(key) if isinstance(settings, dict) else None
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                return token
    for token in (END_OF_TEXT, "</s>"):
        if fast.token_to_id(token) is not None:
            return token
    raise TokenizerError(
        f"{safe_line(str(folder))} names no end-of-text token", 'add "eos_token" to its tokenizer_config.json'
    )


def check(choice: str) -> None:
    """Raises UsageError where `--tokenizer` is neither a known name nor a folder."""
    if choice not in ("bpe", "gpt2") and not Path(choice).is_dir():
        raise invalid_value("--tokenizer", choice, "bpe, gpt2, or a folder with a tokenizer.json")


def open_tokenizer(choice: str) -> Tokenizer:
    """Opens `gpt2` from the Hub, or a folder's tokenizer. Raises TokenizerError, or UsageError as `check` does."""
    if choice != "gpt2":
        check(choice)
        return load(Path(choice))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return load(Path(snapshot_download(GPT2_ID, allow_patterns=list(FILES))), "gpt2")
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise TokenizerError(
            f"the Hub did not give GPT-2's tokenizer ({type(error).__name__})",
            "try again when it answers, name a local copy (--tokenizer FOLDER), or train one (--tokenizer bpe)",
        ) from error
