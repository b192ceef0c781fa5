"""Fetches models from the Hugging Face Hub: only safetensors, never a pickle."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.errors import HubError, ModelError
from storyteller.inference.model_folder import INDEX, SHARD, WEIGHTS
from storyteller.text import safe_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TIMEOUT_SECONDS = 8
_STALL_SECONDS = 15
"""A download without progress for so long is given up. huggingface_hub itself retries for minutes."""
_OTHER_FILES = ("tokenizer_config.json", "tokenizer.json", "generation_config.json", "config.json")
_CONVERTER = "SFconvertbot"
"""The Hub's own account, which opens pull requests that add a safetensors copy of a repository's weights."""


def fetch(name: str, log: Callable[[str], None]) -> Path:
    """Returns the folder of the model `owner/name`, from the Hub or, if the Hub does not answer, from its cache.

    Weights come from the main revision, else from the Hub's own conversion to safetensors. Raises HubError if there is
    no such model or no answer, and ModelError if its weights are only a pickle.
    """
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    set_verbosity(logging.CRITICAL)
    try:
        revision, files = _find(name)
        log(f"fetching {name} from the Hugging Face Hub")
        return _download(name, revision, files)
    except ModelError:
        raise
    except GatedRepoError as error:
        raise HubError(f"{name} is not open to everyone", "ask for access on the Hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise HubError(f"the Hub has no model {name}, or it is private", "check the name, or set HF_TOKEN") from error
    except Exception as error:  # the library lets through what its HTTP client raises, and more
        if cached := _cached(name):
            log(f"the Hub does not answer: using {name} from the cache")
            return cached
        if isinstance(error, OfflineModeIsEnabled):
            raise HubError(f"{name} is not in the cache", "unset HF_HUB_OFFLINE to fetch it") from error
        why = safe_line(str(error).partition("\n")[0], 100) or type(error).__name__
        raise HubError(f"the Hub does not answer for {name} ({why})", "check the network and try again") from error


def _find(name: str) -> tuple[str, Sequence[str]]:
    """Returns the commit that has safetensors, and the files to fetch.

    config.json and tokenizer.json come last, so that an interrupted download is not taken for a complete copy.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    if found := _files(api, name, "main"):
        return found
    offers = api.get_repo_discussions(name, author=_CONVERTER, discussion_type="pull_request")
    # Anyone may open a pull request: only those of the Hub itself are trusted.
    for number in sorted((offer.num for offer in offers if offer.author == _CONVERTER), reverse=True):
        if found := _files(api, name, f"refs/pr/{number}"):
            return found
    raise ModelError(
        f"{name} has no safetensors on the Hub, and a .bin may carry code, so it is not loaded",
        "take another model, or save this one again with transformers",
    )


def _files(api: HfApi, name: str, revision: str) -> tuple[str, Sequence[str]] | None:
    """Returns the revision's commit and the files to fetch, or None if it has no safetensors."""
    info = api.model_info(name, revision=revision, timeout=_TIMEOUT_SECONDS)
    names = [file.rfilename for file in info.siblings or []]
    weights = [WEIGHTS] if WEIGHTS in names else [*filter(SHARD.fullmatch, names), INDEX] if INDEX in names else []
    return (info.sha or revision, [*weights, *(file for file in _OTHER_FILES if file in names)]) if weights else None


def _download(name: str, revision: str, files: Sequence[str]) -> Path:
    """Downloads the files and returns their folder. Raises TimeoutError if no data arrives for a while."""
    from huggingface_hub import hf_hub_download

    fetched: list[Path] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            for file in files:
                path = hf_hub_download(name, file, revision=revision, etag_timeout=_TIMEOUT_SECONDS)
                fetched.append(Path(path))
        except Exception as error:  # noqa: BLE001  raised again below
            failures.append(error)

    # The library's retries cannot be interrupted, so they run on a daemon thread, which may be left behind.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    size, since = -1, time.monotonic()
    while thread.is_alive():
        thread.join(0.2)
        grown = _cached_bytes(name)
        if grown != size:
            size, since = grown, time.monotonic()
        elif time.monotonic() - since > _STALL_SECONDS:
            raise TimeoutError(f"nothing came for {_STALL_SECONDS} seconds")
    if failures:
        raise failures[0]
    return fetched[0].parent


def _cache(name: str) -> Path:
    """The model's folder in the cache; the layout is documented in "Understand caching" of huggingface_hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _cached_bytes(name: str) -> int:
    """Bytes downloaded so far, with incomplete files."""
    total = 0
    for blob in (_cache(name) / "blobs").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed when it was complete
            total += blob.stat().st_size
    return total


def _cached(name: str) -> Path | None:
    """The newest complete copy in the Hub's cache, of any revision."""
    complete = [
        folder
        for folder in (_cache(name) / "snapshots").glob("*")
        if all((folder / file).exists() for file in ("config.json", "tokenizer.json"))
        and ((folder / WEIGHTS).exists() or (folder / INDEX).exists())
    ]
    return max(complete, key=lambda folder: folder.stat().st_mtime, default=None)
