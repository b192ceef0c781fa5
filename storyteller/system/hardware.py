"""Describes this machine without torch: versions, CPU cores, memory, disk, servers and credentials."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = (
    "torch", "transformers", "datasets", "tokenizers", "safetensors", "ctranslate2", "numpy", "textual",
    "wandb", "typer",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of its main dependencies; `not installed` if one is missing."""
    import importlib.metadata

    found = {"python": platform.python_version()}
    for name in ("storyteller", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def n_cores() -> int:
    """The number of CPU cores that this process may use. In a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The name of the CPU."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def training_cores(device: str, precision: str) -> float:
    """A rough estimate of the speed of `device`, in CPU cores with bf16 instructions.

    A CUDA GPU counts as 100 of them, an Apple GPU as 20, and a core without bf16 as a third.
    """
    if trains_on_cuda(device):
        return 100
    if device == "mps" or (device == "auto" and (sys.platform, platform.machine()) == ("darwin", "arm64")):
        return 20
    has_bf16 = {"avx512_bf16", "amx_bf16"} & set(_cpuinfo("flags").split())
    return n_cores() * (1 if has_bf16 and precision in ("auto", "bf16") else 1 / 3)


def trains_on_cuda(device: str) -> bool:
    """True if `device` means CUDA here, judged by the driver, the torch build and CUDA_VISIBLE_DEVICES."""
    import importlib.metadata

    if device != "auto":
        return device == "cuda"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    try:
        for_cpus = importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        for_cpus = True
    return Path("/dev/nvidia0").exists() and not hidden and not for_cpus


def _cpuinfo(key: str) -> str:
    """A field of the first CPU in /proc/cpuinfo; empty if there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == key:
                return line.partition(":")[2].strip()
    return ""


def memory_gib() -> float:
    """Main memory in GiB."""
    import psutil

    return float(psutil.virtual_memory().total) / 2**30


def free_disk_gib(folder: Path) -> float:
    """Free disk space in GiB for `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def git_commit(folder: Path) -> str | None:
    """The commit checked out in `folder`, with a `+` if files were changed; None outside a repository."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def connection_error(url: str, timeout_seconds: float = 10.0) -> str | None:
    """Returns why the server at `url` cannot be reached; None if it answers, with whatever status."""
    import httpx

    try:
        with httpx.Client(timeout=timeout_seconds, follow_redirects=False) as client:
            client.head(url)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def hub_url() -> str:
    """The address of the Hugging Face Hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def wandb_url() -> str:
    """The address of the Weights & Biases server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def has_wandb_key() -> bool:
    """True if the wandb client would find an API key: in the environment, its settings file or netrc."""
    import configparser
    import netrc

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    home = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        settings.read(home / "settings", encoding="utf-8")
    if settings.get("default", "api_key", fallback=""):
        return True
    address = os.environ.get("WANDB_BASE_URL") or settings.get("default", "base_url", fallback="")
    # Without an address, the client uses the W&B cloud, which has two names.
    hosts = [urlsplit(address).netloc] if address else ["api.wandb.ai", "api.forge.coreweave.com"]
    named = os.environ.get("NETRC")
    paths = [Path(file).expanduser() for file in ([named] if named else ["~/.netrc", "~/_netrc"])]
    with contextlib.suppress(StopIteration, netrc.NetrcParseError, OSError, UnicodeDecodeError):
        known = netrc.netrc(str(next(path for path in paths if path.is_file())))
        return any((known.authenticators(host) or ("", "", ""))[2] for host in hosts if host)
    return False
