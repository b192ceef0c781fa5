"""Which model is opened, its parts in several forms, and stories generated in parallel."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, ModelError, RunError, UsageError
from storyteller.inference import engine as engines
from storyteller.inference.engine import newest_label, open_model
from storyteller.inference.generate import _run_in_parallel
from storyteller.system.hardware import n_cores
from storyteller.system.safetensors_file import Tensor, concatenate
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_status import own_status, write_status
from tests.inference.test_engine import save_neo
from tests.support import tiny_models

GREEDY = SamplingParams(temperature=0, max_tokens=40)


def sealed(run: run_folder.RunFolder, step: int, script: str) -> Path:
    staging = checkpoint_folders.stage(run, step)
    tiny_models.script_folder(staging, script)
    (staging / "training_state").mkdir()
    (staging / "training_state" / "state.safetensors").write_bytes(b"12345678")
    return checkpoint_folders.seal(staging, run, step, {"eval/bpb": step})


def made(root: Path, name: str = "little-fox") -> run_folder.RunFolder:
    run = run_folder.create(root, name)
    run.write_run({"name": name, "created_at": "2024-01-01T00:00:00+00:00"})
    return run


# --- the starter, and newer checkpoints -------------------------------------------------------------------------------


def test_the_starter_is_the_packages_own_whatever_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_STARTER_FOLDER", tmp_path / "none")
    with pytest.raises(CheckpointError, match="no starter model: train one"):
        open_model("starter")
    monkeypatch.setattr(engines, "_STARTER_FOLDER", tiny_models.script_folder(tmp_path / "package", "at the start"))
    run = run_folder.RunFolder(tmp_path / "runs" / "starter")
    run.path.mkdir(parents=True)
    run.write_run({"name": "starter", "created_at": "2024-01-01T00:00:00+00:00"})
    sealed(run, 5, "of a run")
    engine = open_model("starter", tmp_path / "runs")
    assert (engine.label, engine.batch([""], GREEDY)[0].text) == ("starter", "at the start")
    assert newest_label("starter", tmp_path / "runs") is None


@pytest.mark.parametrize("name", ["starter", "latest"])
def test_no_new_run_takes_a_word_that_names_a_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is a reserved name"):
        run_folder.create(tmp_path, name)


def test_newer_checkpoints_of_a_run_show_as_they_appear(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = made(root)
    assert newest_label("little-fox", root) is None
    sealed(run, 5, "five")
    engine = open_model("latest", root)
    assert engine.label == newest_label("latest", root) == newest_label("little-fox", root) == "little-fox@5"
    sealed(run, 10, "ten")
    assert newest_label("latest", root) == "little-fox@10" != engine.label
    assert newest_label("little-fox@best", root) == newest_label("little-fox@5", root) == "little-fox@5"
    assert newest_label(str(run.checkpoint(5)), root) is None
    with pytest.raises(RunError, match="no run"):
        newest_label("big-bear", root)


_WHO_GOES_FIRST = """
import contextlib, os, sys
from pathlib import Path
from storyteller.config.configs import SamplingParams
from storyteller.inference.loaded_model import LoadedModel
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
def levels():
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # a thread that loaded the model is just ending
            found.add(os.getpriority(os.PRIO_PROCESS, int(task)) - here)
    return sorted(found)
here, root = os.getpriority(os.PRIO_PROCESS, 0), Path(sys.argv[1])
loaded = LoadedModel("little-fox", root)
print(levels(), loaded.engine._backend._threads)
write_status(RunFolder(root / "little-fox"), own_status("running"))
loaded.yield_cpu_to_training()
told = loaded.engine.batch(["", ""], SamplingParams(temperature=0))[1].text
print(levels(), loaded.engine._backend._threads, loaded.engine._backend.parallel_decodings, told)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_telling_is_one_thread_far_behind_while_a_run_trains_and_as_quick_as_any_else(tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    sealed(run, 5, "five")
    write_status(run, replace(own_status("finished"), step=5))
    done = subprocess.run(
        [sys.executable, "-c", _WHO_GOES_FIRST, str(tmp_path / "runs")], capture_output=True, text=True, check=True
    )
    idle, busy = done.stdout.splitlines()
    assert idle == f"[0] {min(n_cores(), 2)}"
    assert busy == f"[{19 - os.getpriority(os.PRIO_PROCESS, 0)}] 1 1 five"


def test_damage_of_what_only_training_reads_is_no_matter_to_telling(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    path = sealed(made(root), 5, "five")
    (path / "training_state" / "state.safetensors").write_bytes(b"1234567x")
    for reference in ("latest", "little-fox@5", str(path)):
        assert open_model(reference, root).batch([""], GREEDY)[0].text == "five"
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint_folders.verify(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_file_of_a_checkpoint_is_named(tmp_path: Path, name: str, how: str) -> None:
    path = sealed(made(tmp_path / "runs"), 5, "five")
    content = (path / name).read_bytes()
    middle = len(content) // 2
    changed = (
        content[:middle] if how == "cut" else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    (path / name).write_bytes(changed)
    for reference in ("little-fox@5", "latest", str(path)):
        with pytest.raises(CheckpointError) as error:
            open_model(reference, tmp_path / "runs")
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    weights = tiny_models.random_weights()
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:100].copy()
    settings = tiny_models.config(32, 2, 4, 64, vocab_size=100, eos_token_id=None, bos_token_id=None)
    engine = open_model(str(tiny_models.write_folder(tmp_path / "model", weights, settings)))
    with pytest.raises(ModelError, match="more tokens than the model"):
        engine.stream("tell", GREEDY)


# --- compute types, and threads ---------------------------------------------------------------------------------------


def test_8_bits_are_asked_for_by_name(tmp_path: Path, neo: Path) -> None:
    folder = str(tiny_models.random_folder(tmp_path / "model"))
    with pytest.raises(UsageError, match="invalid value fp64 for --compute-type: expected fp32 or int8"):
        open_model(folder, compute_type="fp64")
    with pytest.raises(UsageError, match="runs on transformers"):
        open_model(str(neo), compute_type="int8")
    sample = SamplingParams(seed=2, max_tokens=60)
    told = {open_model(folder, compute_type="int8").batch(["Once"], sample)[0].text for _ in range(2)}
    assert len(told) == 1
    assert told != {open_model(folder).batch(["Once"], sample)[0].text}


@pytest.fixture(scope="module")
def neo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_neo(tmp_path_factory.mktemp("neo"))


def test_a_batch_is_the_same_on_any_number_of_threads(tmp_path: Path) -> None:
    folder = str(tiny_models.random_folder(tmp_path / "model", eos_token_id=None, bos_token_id=None))
    prompts = ["Once" * (1 + number % 3) for number in range(40)]
    sample = SamplingParams(seed=6, max_tokens=80)  # beyond the window of 64
    told = [[story.text for story in open_model(folder, threads=n).batch(prompts, sample)] for n in (1, 3)]
    assert told[0] == told[1]
    assert len(set(told[0])) == 40


_INTERRUPTED = """
import random, signal, sys
from storyteller.config.configs import SamplingParams
from storyteller.inference.engine import open_model

engine, chance = open_model(sys.argv[1]), random.Random(1)

def ctrl_c(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, ctrl_c)
stopped = 0
for _ in range(300):
    pieces = engine.stream("Once", SamplingParams(max_tokens=1_000_000, seed=1))
    try:
        next(pieces)
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 5e-3))
        for _ in pieces:
            pass
    except KeyboardInterrupt:
        stopped += 1
    finally:
        pieces.close()
print(stopped, "".join(engine.stream("Once", SamplingParams(max_tokens=4, temperature=0))))
"""


def test_ctrl_c_at_any_moment_stops_the_telling_and_holds_up_nothing(tmp_path: Path) -> None:
    folder = tiny_models.script_folder(tmp_path / "script", ". " * 32)
    told = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, str(folder)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "300 . . \n", "")


def test_the_first_error_stops_every_worker() -> None:
    began = threading.Barrier(2)

    def fails(*_: object) -> None:
        began.wait()
        raise ModelError("it broke", "take another")

    def waits(_: int | None, stopped: threading.Event) -> None:
        began.wait()
        assert stopped.wait(30)

    with pytest.raises(ModelError, match="it broke"):
        _run_in_parallel([fails, waits, fails], 2)


# --- transformers, in a child -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_foreign_batch_is_told_as_each_alone(neo: Path) -> None:
    prompts = ["O", "Once upon a time", "Tim and Sue", "The"]
    with open_model(str(neo), threads=1) as engine:
        for greedy in (GREEDY, SamplingParams(temperature=0, max_tokens=90, repetition_penalty=1.2, no_repeat_ngram=3)):
            alone = [engine.batch([prompt], greedy)[0].text for prompt in prompts]
            assert [story.text for story in engine.batch(prompts, greedy)] == alone
        drawn = SamplingParams(seed=4, max_tokens=40, min_p=0.02)
        first = [story.text for story in engine.batch(["Tim"] * 5, drawn)]
        assert first == [story.text for story in engine.batch(["Tim"] * 5, drawn)]
        assert first[0] == "".join(engine.stream("Tim", drawn))
        assert len(set(first)) == 5
        searched = SamplingParams(beams=3, max_tokens=20)
        assert engine.batch(["Tim", "O"], searched)[0].text == "".join(engine.stream("Tim", searched))
        with pytest.raises(UsageError, match="tokens long"):
            engine.batch(["y" * 100_000, "O"], GREEDY)


def test_windows_are_padded_only_where_the_model_takes_no_notice(neo: Path) -> None:
    from storyteller.model.transformers_server import ServedModel, load

    class Notices:
        """A model that looks at its padding."""

        def __init__(self) -> None:
            self.inner = load(str(neo))

        def forward(self, input_ids: Any, **rest: Any) -> Any:
            return self.inner(input_ids=input_ids, past_key_values=rest.get("past_key_values"), use_cache=True)

        __call__ = forward

    windows = [[1, 2], [3, 4, 5], [6, 7]]
    sound, odd = ServedModel(load(str(neo))), ServedModel(Notices())
    assert [(group.rows, group.mask is not None) for group in sound.group([0, 1, 2], windows)] == [([0, 1, 2], True)]
    assert [(group.rows, group.mask) for group in odd.group([0, 1, 2], windows)] == [([0, 2], None), ([1], None)]


# --- tensors ----------------------------------------------------------------------------------------------------------

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@given(st.sampled_from([*TYPES, "BF16"]), st.binary(min_size=8, max_size=240))
def test_finite_is_what_numpy_thinks(kind: str, raw: bytes) -> None:
    size = {"F64": 8, "F32": 4}.get(kind, 2)
    raw = raw[: len(raw) // size * size]
    if kind == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, TYPES[kind])
    assert Tensor(kind, (len(raw) // size,), memoryview(raw)).finite() == bool(np.isfinite(values).all())


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 3e38, -3e38])
def test_what_is_no_number_is_found_among_huge_ones(value: float) -> None:
    raw = struct.pack("<3f", 3e38, value, -1.0)
    assert Tensor("F32", (3,), memoryview(raw)).finite() == (abs(value) == 3e38)


@pytest.mark.parametrize("kind", TYPES)
def test_matrices_are_turned_and_joined_as_numpy_does(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((3, 5)).astype(TYPES[kind])
    tensor = Tensor(kind, (3, 5), memoryview(values.tobytes()))
    turned = tensor.transposed()
    assert (turned.shape, turned.raw.tobytes()) == ((5, 3), values.T.tobytes())
    both = concatenate([tensor, tensor])
    assert (both.shape, both.raw.tobytes()) == ((6, 5), np.concatenate([values, values]).tobytes())
    single = np.frombuffer(tensor.single().raw, "<f2" if kind == "F16" else "<f4")
    assert (single == values.astype(single.dtype).ravel()).all()


def test_telling_imports_no_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from storyteller.inference.engine import open_model\n"
        "from storyteller.config.configs import SamplingParams\n"
        "open_model(sys.argv[1]).batch(['', 'a'], SamplingParams(seed=1))\n"
        "print({'numpy', 'torch', 'transformers'} & set(sys.modules))"
    )
    folder = str(tiny_models.script_folder(tmp_path / "model", "fine"))
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
