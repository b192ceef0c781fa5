"""Writes, verifies and prunes checkpoint folders, whatever they contain.

A folder under its final name is complete: it was filled under a hidden name, everything in it was fsynced, the manifest
last, and a single rename gave it its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from storyteller.errors import CheckpointError
from storyteller.system.files import fsync_folder, read_regular, write_json
from storyteller.text import safe_line
from storyteller.tracking.run_folder import SCHEMA, RunFolder, check_inside, step_name

MANIFEST = "manifest.json"
BEST_BY = "eval/bpb"  # the manifest entry that the best checkpoint has the lowest value of

TRAINING_STATE = "training_state"  # the folder in a checkpoint whose files only training reads

_SEAL = "manifest_sha256"
_STEP = re.compile(r"step-(\d{8,18})")
_HIDDEN = re.compile(r"\.(staging|aside|removed)-(step-\d{8,18})-.+")
_TRY_ANOTHER = "use another: RUN@STEP, or RUN for the newest intact one"


def stage(folder: RunFolder, step: int) -> Path:
    """Makes an empty folder to fill and then `seal`. Raises OSError; RunError if `checkpoints` is a link elsewhere."""
    check_inside(folder.path.parent, folder.checkpoints)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    for failed in folder.checkpoints.glob(f".staging-*-{os.getpid()}"):
        shutil.rmtree(failed)  # left by an earlier save of this process that ran out of space
    staging = folder.checkpoints / f".staging-{step_name(step)}-{os.getpid()}"
    staging.mkdir()
    return staging


def seal(staging: Path, folder: RunFolder, step: int, facts: Mapping[str, object]) -> Path:
    """Writes the manifest of a filled staging folder and renames it to its final name. Returns the new path.

    `facts`, such as `eval/bpb`, are added to the manifest, except values that are not finite. An earlier checkpoint of
    the same step (of a resumed run) is replaced only once the new one is on the disk. Raises OSError: the staging
    folder is removed then, and earlier checkpoints are unchanged.
    """
    try:
        files = {}
        for path in sorted(staging.rglob("*")):  # fsyncs everything in the folder; the manifest is written last
            if path.is_dir():
                fsync_folder(path)
            elif path.name != MANIFEST or path.parent != staging:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    os.fsync(file.fileno())
                    size = os.fstat(file.fileno()).st_size
                files[path.relative_to(staging).as_posix()] = {"bytes": size, "sha256": digest}
        finite = {key: value for key, value in facts.items() if not isinstance(value, float) or math.isfinite(value)}
        contents: dict[str, Any] = {**finite, "schema": SCHEMA, "step": step, "files": files}
        write_json(staging / MANIFEST, {**contents, _SEAL: _digest_of(contents)})
        return _name(staging, folder.checkpoint(step))
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def sweep(folder: RunFolder) -> list[Path]:
    """Removes what a killed process left unfinished; only the run's owner may call this. Returns the removed paths.

    A checkpoint that was set aside for a new one that never came gets its name back.
    """
    removed = []
    with contextlib.suppress(FileNotFoundError):
        check_inside(folder.path.parent, folder.checkpoints)
        for path in sorted(folder.checkpoints.iterdir()):
            match = _HIDDEN.fullmatch(path.name)
            if match is None:
                continue
            final = folder.checkpoints / match[2]
            if match[1] == "aside" and not os.path.lexists(final):
                path.rename(final)
                fsync_folder(folder.checkpoints)
            else:
                _delete(path)
                removed.append(path)
    return removed


def manifest(path: Path) -> dict[str, Any]:
    """Reads the checkpoint's manifest without checking the files it lists.

    Raises CheckpointError if it is missing, broken or of a newer schema.
    """
    shown = _shown(path)
    try:
        contents = json.loads(read_regular(path / MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        what = f"has no {MANIFEST}" if path.is_dir() else "is missing"
        raise CheckpointError(f"checkpoint {shown} {what}", _TRY_ANOTHER) from None
    except (OSError, ValueError, RecursionError):
        contents = None
    schema = contents.get("schema") if isinstance(contents, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise CheckpointError(
            f"checkpoint {shown} was written by a newer storyteller (schema {schema}, this one reads {SCHEMA})",
            "update storyteller",
        )
    if not _is_manifest(contents):
        raise CheckpointError(f"the {MANIFEST} of checkpoint {shown} is broken", _TRY_ANOTHER)
    return dict(contents)


def verify(path: Path, *, for_inference: bool = False) -> dict[str, Any]:
    """Checks every file in the manifest by size and SHA-256, and returns the manifest. Ignores extra files.

    With `for_inference`, files that only training reads, more than half of the bytes, are checked by size only. Raises
    CheckpointError, which names the first damaged file.
    """
    contents = _sized_manifest(path)
    for name, entry in contents["files"].items():
        if for_inference and name.startswith(f"{TRAINING_STATE}/"):
            continue
        try:
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(path, name, f"cannot be read ({error.strerror})") from error
        if digest != entry["sha256"]:
            raise _damaged(path, name, "does not match its checksum")
    return contents


def steps(folder: RunFolder) -> list[int]:
    """Returns the steps that have a checkpoint folder, ascending, intact or not."""
    try:
        names = [path.name for path in folder.checkpoints.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (int(match[1]) for name in names if (match := _STEP.fullmatch(name)) and name == step_name(int(match[1])))
    return sorted(found)


def newest_good(folder: RunFolder, *, for_inference: bool = False) -> tuple[Path, list[CheckpointError]]:
    """Returns the newest checkpoint that passes `verify`, and the error of each newer one that was skipped.

    Raises CheckpointError if there is none.
    """
    skipped: list[CheckpointError] = []
    for step in reversed(steps(folder)):
        path = folder.checkpoint(step)
        try:
            if path.is_symlink():
                raise CheckpointError(f"checkpoint {_shown(path)} is a link", "replace it with the real folder")
            verify(path, for_inference=for_inference)
        except CheckpointError as error:
            skipped.append(error)
        else:
            return path, skipped
    shown = safe_line(folder.name, 80)
    if not skipped:
        raise CheckpointError(f"{shown} has no checkpoint yet", "wait for its first, or train again")
    raise CheckpointError(
        f"none of the {len(skipped)} checkpoints of {shown} is intact; the newest: {skipped[0].problem}",
        "restore the folder from a copy, or train again",
    )


def best(folder: RunFolder) -> Path | None:
    """Returns the checkpoint with the lowest `eval/bpb`, the newer of equals; None if none was evaluated.

    Checks manifests and file sizes only, and ignores checkpoints damaged by that measure.
    """
    lowest, found = math.inf, None
    for step in steps(folder):
        value = (_intact_manifest(folder.checkpoint(step)) or {}).get(BEST_BY)
        if isinstance(value, int | float) and value <= lowest:
            lowest, found = value, folder.checkpoint(step)
    return found


def best_manifest_sha256(folder: RunFolder) -> str:
    """SHA-256 of the manifest of the best checkpoint; empty if there is none."""
    with contextlib.suppress(OSError):
        if (path := best(folder)) is not None:
            return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    return ""


def prune(folder: RunFolder, keep: int) -> list[Path]:
    """Removes all but the newest `keep` checkpoints and the best one. Returns the removed paths.

    Damaged checkpoints do not count towards `keep`: they must not displace the last one that loads.
    """
    there = steps(folder)
    intact = [step for step in there if _intact_manifest(folder.checkpoint(step)) is not None]
    if len(intact) <= keep:
        return []
    oldest_kept = intact[-max(keep, 1)]
    kept = best(folder)
    removed = [path for step in there if step < oldest_kept and (path := folder.checkpoint(step)) != kept]
    for path in removed:
        _remove(path)
    return removed


def forget_after(folder: RunFolder, step: int) -> list[Path]:
    """Removes the checkpoints and cards of later steps than `step`. Returns the paths of the removed checkpoints.

    For a run that is resumed from an earlier step: otherwise a superseded checkpoint would remain the newest.
    """
    removed = [folder.checkpoint(later) for later in steps(folder) if later > step]
    for path in reversed(removed):
        _remove(path)
    for card in folder.cards.glob("step-*.json"):
        if (match := _STEP.fullmatch(card.stem)) is not None and int(match[1]) > step:
            card.unlink(missing_ok=True)
    return removed


def _name(staging: Path, final: Path) -> Path:
    """Renames the staging folder to its final name, setting aside what has that name."""
    aside = _hidden(final, "aside")
    has_earlier = os.path.lexists(final)
    if has_earlier:
        final.rename(aside)  # a folder cannot be renamed onto one that is not empty
    try:
        staging.rename(final)
    except OSError:
        if has_earlier:
            aside.rename(final)
        raise
    fsync_folder(final.parent)
    if has_earlier:
        _delete(aside)
    return final


def _is_manifest(contents: object) -> bool:
    """True if it has the right structure and its checksum matches."""
    types = {"files": dict, "schema": int, "step": int}
    if not isinstance(contents, dict) or not all(isinstance(contents.get(key), types[key]) for key in types):
        return False
    for entry in contents["files"].values():
        if not (
            isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        ):
            return False
    return bool(contents.get(_SEAL) == _digest_of({key: contents[key] for key in contents if key != _SEAL}))


def _digest_of(contents: Mapping[str, object]) -> str:
    """The manifest's own checksum, which detects a flipped bit in a step or value."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _intact_manifest(path: Path) -> dict[str, Any] | None:
    """Returns the manifest if all files exist with their sizes, else None; hashes nothing."""
    try:
        return _sized_manifest(path)
    except CheckpointError:
        return None


def _sized_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest. Raises CheckpointError unless all files exist with their sizes; hashes nothing."""
    contents = manifest(path)
    for name, entry in contents["files"].items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise _damaged(path, name, "is outside the folder")
        file = path / name
        try:
            found = file.stat()
            inside = file.resolve().is_relative_to(path.resolve())
        except (FileNotFoundError, NotADirectoryError):
            raise _damaged(path, name, "is missing") from None
        except (OSError, RuntimeError) as error:
            raise _damaged(path, name, "cannot be read") from error
        if not inside:
            raise _damaged(path, name, "is a link that leads out of the folder")
        if not stat.S_ISREG(found.st_mode):
            raise _damaged(path, name, "is not a file")
        if found.st_size != entry["bytes"]:
            raise _damaged(path, name, f"is {found.st_size:,} bytes, not {entry['bytes']:,}")
    return contents


def _damaged(path: Path, name: str, how: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {_shown(path)} is damaged: {safe_line(name, 100)} {how}", _TRY_ANOTHER)


def _shown(path: Path) -> str:
    """`run@step` for a checkpoint in a run folder, otherwise its path."""
    match = _STEP.fullmatch(path.name)
    if match and path.parent.name == "checkpoints":
        return safe_line(f"{path.parent.parent.name}@{int(match[1])}", 100)
    return safe_line(str(path), 200)


def _hidden(path: Path, why: str) -> Path:
    return path.with_name(f".{why}-{path.name}-{os.getpid()}-{secrets.token_hex(3)}")


def _remove(path: Path) -> None:
    """Removes the folder, hiding it first so that no reader finds half of it."""
    hidden = _hidden(path, "removed")
    path.rename(hidden)
    _delete(hidden)


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)  # what is left is removed by `sweep` at the next start
