"""A model fetched from the Hugging Face Hub: safetensors alone, never a pickle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.engine.folder import INDEX, SHARD, WEIGHTS
from storyteller.errors import HubError, ModelError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TIMEOUT_SECONDS = 8
_BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_CONVERTER = "SFconvertbot"
"""The Hub's own account that offers a safetensors copy of a repository's weights as a pull request."""


def fetch(name: str, log: Callable[[str], None]) -> Path:
    """The folder of the model `owner/name`: from the Hub, or from its cache where the Hub does not answer.

    Weights come from the main revision, else from the conversion that the Hub offers. Raises HubError where there is no
    such model or no answer, ModelError where its weights are a pickle alone.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        revision, weights = _find(name)
        log(f"fetching {name} from the Hugging Face Hub")
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[*_BESIDE, *weights], etag_timeout=_TIMEOUT_SECONDS
            )
        )
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
    """The revision that has safetensors, and their names."""
    from huggingface_hub import HfApi

    api = HfApi()
    if weights := _weights(api, name, "main"):
        return "main", weights
    offers = api.get_repo_discussions(name, author=_CONVERTER, discussion_type="pull_request")
    # Anyone may open a pull request: only the Hub's own is trusted.
    for number in sorted((offer.num for offer in offers if offer.author == _CONVERTER), reverse=True):
        if weights := _weights(api, name, f"refs/pr/{number}"):
            return f"refs/pr/{number}", weights
    raise ModelError(
        f"{name} has no safetensors on the Hub, and a .bin may carry code, so it is not loaded",
        "take another model, or save this one anew with transformers",
    )


def _weights(api: HfApi, name: str, revision: str) -> list[str]:
    """The names of the revision's weights."""
    files = api.model_info(name, revision=revision, timeout=_TIMEOUT_SECONDS).siblings or []
    names = [file.rfilename for file in files]
    if WEIGHTS in names:
        return [WEIGHTS]
    return [INDEX, *filter(SHARD.fullmatch, names)] if INDEX in names else []


def _cached(name: str) -> Path | None:
    """The newest whole copy in the Hub's cache, of whichever revision."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshots = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots"
    needed = ("config.json", "tokenizer.json")
    whole = [
        folder
        for folder in snapshots.glob("*")
        if all((folder / file).exists() for file in needed)
        and ((folder / WEIGHTS).exists() or (folder / INDEX).exists())
    ]
    return max(whole, key=lambda folder: folder.stat().st_mtime, default=None)
