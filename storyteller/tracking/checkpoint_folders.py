"""Checkpoint folders as files: staged aside, sealed with a manifest, renamed into place, verified, pruned.

A folder under its final name is whole: it was filled under a hidden name, every file and folder of it was brought to
the disk, and one rename gave it its name. What is inside is not this module's business.
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
BEST_BY = "eval/bpb"
"""The fact of a manifest by which the best checkpoint is chosen; the lowest wins."""

TRAINING_STATE = "training_state"
"""The folder in a checkpoint of what only training reads."""

_SEAL = "manifest_sha256"
_STEP = re.compile(r"step-(\d{8,18})")
_HIDDEN = re.compile(r"\.(staging|aside|removed)-(step-\d{8,18})-.+")
_TRY_ANOTHER = "take another: RUN@STEP, or RUN for the newest that is whole"


def stage(folder: RunFolder, step: int) -> Path:
    """A fresh empty folder to fill and then `seal`. Raises OSError, RunError where `checkpoints` leads elsewhere."""
    check_inside(folder.path.parent, folder.checkpoints)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    for failed in folder.checkpoints.glob(f".staging-*-{os.getpid()}"):
        shutil.rmtree(failed)  # an earlier save of ours that ran out of space holds on to some
    staging = folder.checkpoints / f".staging-{step_name(step)}-{os.getpid()}"
    staging.mkdir()
    return staging


def seal(staging: Path, folder: RunFolder, step: int, facts: Mapping[str, object]) -> Path:
    """Give a filled staging folder its manifest and its final name; the path under that name.

    `facts`, such as `eval/bpb`, go into the manifest; a value that is not finite is left out. A checkpoint of the same
    step that a resumed run saves again steps aside only when the new one is wholly on the disk. Raises OSError: the
    staging folder is gone then, with the space it took, and any earlier checkpoint is as it was.
    """
    try:
        _write_manifest(staging, step, facts)
        return _name(staging, folder.checkpoint(step))
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def sweep(folder: RunFolder) -> list[Path]:
    """Remove what a killed process left half-done; for the run's owner alone. The paths removed.

    A checkpoint that had stepped aside for one that never came gets its name back.
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
    """The checkpoint's manifest, without a look at the files it lists.

    Raises CheckpointError where it is missing, broken or of a newer schema.
    """
    shown = _shown(path)
    try:
        contents = json.loads(read_regular(path / MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        what = f"has no {MANIFEST}" if path.is_dir() else "is missing"
        raise CheckpointError(f"checkpoint {shown} {what}", _TRY_ANOTHER) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the {MANIFEST} of checkpoint {shown} is broken", _TRY_ANOTHER) from error
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
    """The manifest, once every file it lists was found whole; extra files are no matter.

    `for_inference`: what only training reads, more than half of the bytes, is looked at for its size alone. Raises
    CheckpointError, naming the first file that is off and how.
    """
    contents = manifest(path)
    _check_files(path, contents)
    for name, entry in contents["files"].items():
        if for_inference and name.startswith(f"{TRAINING_STATE}/"):
            continue
        try:
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _off(path, name, f"cannot be read ({error.strerror})") from error
        if digest != entry["sha256"]:
            raise _off(path, name, "does not match its checksum")
    return contents


def steps(folder: RunFolder) -> list[int]:
    """The steps that have a checkpoint folder, ascending, whole or not."""
    try:
        names = [path.name for path in folder.checkpoints.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (int(match[1]) for name in names if (match := _STEP.fullmatch(name)) and name == step_name(int(match[1])))
    return sorted(found)


def newest_good(folder: RunFolder, *, for_inference: bool = False) -> tuple[Path, list[CheckpointError]]:
    """The newest checkpoint that verifies, as `verify` does, and what is wrong with each newer one that was skipped.

    Raises CheckpointError where there is none.
    """
    skipped: list[CheckpointError] = []
    for step in reversed(steps(folder)):
        path = folder.checkpoint(step)
        try:
            if path.is_symlink():
                raise CheckpointError(f"checkpoint {_shown(path)} is a link", "put the real folder there")
            verify(path, for_inference=for_inference)
        except CheckpointError as error:
            skipped.append(error)
        else:
            return path, skipped
    shown = safe_line(folder.name, 80)
    if not skipped:
        raise CheckpointError(f"{shown} has no checkpoint yet", "wait for its first, or train anew")
    raise CheckpointError(
        f"no checkpoint of {shown} is whole, of {len(skipped)}; the newest: {skipped[0].problem}",
        "restore the folder from a copy, or train anew",
    )


def best(folder: RunFolder) -> Path | None:
    """The checkpoint with the lowest `eval/bpb`, the newer of equals; None where none was evaluated.

    Only manifests and sizes are looked at; a checkpoint found damaged by them does not count.
    """
    lowest, found = math.inf, None
    for step in steps(folder):
        value = (_sound(folder.checkpoint(step)) or {}).get(BEST_BY)
        if isinstance(value, int | float) and value <= lowest:
            lowest, found = value, folder.checkpoint(step)
    return found


def prune(folder: RunFolder, keep: int) -> list[Path]:
    """Remove all but the newest `keep` checkpoints and the best; the paths removed.

    A damaged checkpoint is none of the `keep`: it must not push out the last one that loads.
    """
    there = steps(folder)
    sound = [step for step in there if _sound(folder.checkpoint(step)) is not None]
    if len(sound) <= keep:
        return []
    oldest_kept = sound[-max(keep, 1)]
    kept = best(folder)
    removed = [folder.checkpoint(step) for step in there if step < oldest_kept]
    removed = [path for path in removed if path != kept]
    for path in removed:
        _remove(path)
    return removed


def forget_after(folder: RunFolder, step: int) -> list[Path]:
    """Remove the checkpoints of steps past `step`, and their cards; the paths of checkpoints removed.

    For a run resumed from an earlier step: else the newest checkpoint would stay one of the course that was given up.
    """
    removed = [folder.checkpoint(later) for later in steps(folder) if later > step]
    for path in reversed(removed):
        _remove(path)
    for card in folder.cards.glob("step-*.json"):
        if (match := _STEP.fullmatch(card.stem)) is not None and int(match[1]) > step:
            card.unlink(missing_ok=True)
    return removed


def _write_manifest(staging: Path, step: int, facts: Mapping[str, object]) -> None:
    """Bring all of the folder to the disk, the manifest last."""
    files = {}
    for path in sorted(staging.rglob("*")):
        if path.is_dir():
            fsync_folder(path)
        elif path.name != MANIFEST or path.parent != staging:
            files[path.relative_to(staging).as_posix()] = _fsynced(path)
    finite = {key: value for key, value in facts.items() if not isinstance(value, float) or math.isfinite(value)}
    contents: dict[str, Any] = {**finite, "schema": SCHEMA, "step": step, "files": files}
    write_json(staging / MANIFEST, {**contents, _SEAL: _digest_of(contents)})


def _name(staging: Path, final: Path) -> Path:
    """Rename the staging folder to its final name, whatever has that name stepping aside."""
    aside = _hidden(final, "aside") if os.path.lexists(final) else None
    if aside is not None:
        final.rename(aside)  # a folder cannot be renamed onto one that has files
    try:
        staging.rename(final)
    except OSError:
        if aside is not None:
            aside.rename(final)
        raise
    fsync_folder(final.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)  # what stays is swept at the next start
    return final


def _is_manifest(contents: object) -> bool:
    """Whether it has the right shape and says what it said when it was sealed."""
    if not isinstance(contents, dict) or not isinstance(contents.get("files"), dict):
        return False
    if not isinstance(contents.get("schema"), int) or not isinstance(contents.get("step"), int):
        return False
    for entry in contents["files"].values():
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
            return False
        if not isinstance(entry.get("sha256"), str):
            return False
    return bool(contents.get(_SEAL) == _digest_of({key: contents[key] for key in contents if key != _SEAL}))


def _digest_of(contents: Mapping[str, object]) -> str:
    """The manifest's own checksum: a flipped bit in a step or a figure would else be taken for the truth."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _sound(path: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint whose files are there at their sizes, or None; nothing is hashed."""
    try:
        contents = manifest(path)
        _check_files(path, contents)
    except CheckpointError:
        return None
    return contents


def _check_files(path: Path, contents: Mapping[str, Any]) -> None:
    for name, entry in contents["files"].items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise _off(path, name, "lies outside of it")
        file = path / name
        try:
            found = file.stat()
            inside = file.resolve().is_relative_to(path.resolve())
        except (FileNotFoundError, NotADirectoryError):
            raise _off(path, name, "is missing") from None
        except (OSError, RuntimeError) as error:
            raise _off(path, name, "cannot be read") from error
        if not inside:
            raise _off(path, name, "is a link that leads out of it")
        if not stat.S_ISREG(found.st_mode):
            raise _off(path, name, "is no file")
        if found.st_size != entry["bytes"]:
            raise _off(path, name, f"is {found.st_size:,} bytes, not {entry['bytes']:,}")


def _off(path: Path, name: str, how: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {_shown(path)} is damaged: {safe_line(name, 100)} {how}", _TRY_ANOTHER)


def _shown(path: Path) -> str:
    """`run@step` for a checkpoint in a run folder, else its path."""
    match = _STEP.fullmatch(path.name)
    if match and path.parent.name == "checkpoints":
        return safe_line(f"{path.parent.parent.name}@{int(match[1])}", 100)
    return safe_line(str(path), 200)


def _fsynced(path: Path) -> dict[str, object]:
    """Bring the file to the disk; its size and checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


def _hidden(path: Path, why: str) -> Path:
    return path.with_name(f".{why}-{path.name}-{os.getpid()}-{secrets.token_hex(3)}")


def _remove(path: Path) -> None:
    """Hidden first, so that no reader finds half of it."""
    hidden = _hidden(path, "removed")
    path.rename(hidden)
    _delete(hidden)


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)  # what stays is swept at the next start
