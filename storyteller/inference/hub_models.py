"""A model fetched from the Hugging Face Hub: safetensors alone, never a pickle."""

from __future__ import annotations

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
"""The library itself goes on trying for minutes."""
_BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_CONVERTER = "SFconvertbot"
"""The Hub's own account that offers a safetensors copy of a repository's weights as a pull request."""


def fetch(name: str, log: Callable[[str], None]) -> Path:
    """The folder of the model `owner/name`: from the Hub, or from its cache where the Hub does not answer.

    Weights come from the main revision, else from the conversion that the Hub offers. Raises HubError where there is no
    such model or no answer, ModelError where its weights are a pickle alone.
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
            log(f"the Hub does not answer: taking {name} from its cache")
            return cached
        if isinstance(error, OfflineModeIsEnabled):
            raise HubError(f"{name} is not in the cache", "unset HF_HUB_OFFLINE to fetch it") from error
        why = safe_line(str(error).partition("\n")[0], 100) or type(error).__name__
        raise HubError(f"the Hub does not answer for {name} ({why})", "check the network and try again") from error


def _find(name: str) -> tuple[str, Sequence[str]]:
    """The commit that has safetensors, and the files to fetch, those that make it whole last."""
    from huggingface_hub import HfApi

    api = HfApi()
    if found := _files(api, name, "main"):
        return found
    offers = api.get_repo_discussions(name, author=_CONVERTER, discussion_type="pull_request")
    # Anyone may open a pull request: only the Hub's own is trusted.
    for number in sorted((offer.num for offer in offers if offer.author == _CONVERTER), reverse=True):
        if found := _files(api, name, f"refs/pr/{number}"):
            return found
    raise ModelError(
        f"{name} has no safetensors on the Hub, and a .bin may carry code, so it is not loaded",
        "take another model, or save this one anew with transformers",
    )


def _files(api: HfApi, name: str, revision: str) -> tuple[str, Sequence[str]] | None:
    """The revision's commit and the names of the files to fetch, where it has safetensors."""
    info = api.model_info(name, revision=revision, timeout=_TIMEOUT_SECONDS)
    there = [file.rfilename for file in info.siblings or []]
    weights = [WEIGHTS] if WEIGHTS in there else [*filter(SHARD.fullmatch, there), INDEX] if INDEX in there else []
    beside = [file for file in _BESIDE if file in there]
    return (info.sha or revision, [*weights, *reversed(beside)]) if weights else None


def _download(name: str, revision: str, files: Sequence[str]) -> Path:
    """Fetch the files; the folder that they lie in. Raises TimeoutError where nothing comes for a while."""
    from huggingface_hub import hf_hub_download

    fetched: list[Path] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            for file in files:
                path = hf_hub_download(name, file, revision=revision, etag_timeout=_TIMEOUT_SECONDS)
                fetched.append(Path(path))
        except Exception as error:  # noqa: BLE001  raised again below, where someone waits for it
            failures.append(error)

    # A thread that may be left behind: neither the library's attempts nor its pauses can be cut short.
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
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _cached_bytes(name: str) -> int:
    """What has come so far, unfinished files too."""
    total = 0
    for blob in (_cache(name) / "blobs").glob("*"):
        try:
            total += blob.stat().st_size
        except FileNotFoundError:  # renamed on being finished
            continue
    return total


def _cached(name: str) -> Path | None:
    """The newest whole copy in the Hub's cache, of whichever revision."""
    whole = [
        folder
        for folder in (_cache(name) / "snapshots").glob("*")
        if all((folder / file).exists() for file in ("config.json", "tokenizer.json"))
        and ((folder / WEIGHTS).exists() or (folder / INDEX).exists())
    ]
    return max(whole, key=lambda folder: folder.stat().st_mtime, default=None)
