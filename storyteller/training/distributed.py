"""Data-parallel training of one run by several processes.

Every process reads the same steps and computes its share of their rows (`data.batches`). The gradients are summed over
all processes, and each then takes the same optimizer step. Whether to take a step, to stop or to end is agreed on by
votes (`ProcessGroup.sum`), so that no process waits in a collective that another never enters.

The gradients are summed by one collective over a flat buffer after the backward pass, not by
`DistributedDataParallel`: what is needed is their sum (each is divided by the whole step's number of targets already),
over several passes, also where a process has no row at all; and neither the loss's autograd function nor Muon has to
fit its hooks. The cost is that communication does not overlap with the backward pass, which models of this size do not
need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from storyteller.config.configs import TrainConfig
from storyteller.errors import PeerLostError, UsageError
from storyteller.model import device, memory
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.system.hardware import n_cores
from storyteller.training.optimizers import Optimizers

_TIMEOUT = datetime.timedelta(minutes=30)
"""For a collective: the first process may be saving a checkpoint to a slow disk meanwhile."""
_POLL_SECONDS = 0.05
_WEIGHTS, _STATE = "weights/", "optimizer/"
_SETUP_READY, _ENDING, _ENDED = "ready", "ending", "ended"
"""Keys of the store that the processes share."""


class SingleProcess:
    """One process: every exchange returns its input, and `torch.distributed` is not needed."""

    rank = 0
    """Index of this process among those that train the run."""
    size = 1
    """Number of processes that train the run."""

    @property
    def is_first(self) -> bool:
        """True for the process that writes the run folder and whose clock counts."""
        return self.rank == 0

    def machine(self, train: TrainConfig) -> ComputeDevice:
        """The device and precision of this process. Raises UsageError if what was asked for does not exist."""
        return device.choose(train)

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value, summed over all processes. Raises PeerLostError if another has ended."""
        return values

    def from_first(self, value: float) -> float:
        """Returns the first process's value, in every process."""
        return value

    def add_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:  # noqa: ARG002
        """Sum the gradients of `parameters` over all processes, in place, and return the sum of `loss`."""
        return loss

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch's generators for a step, if each process must draw its own dropout masks."""

    def share_state(self, model: GPT, optimizers: Optimizers) -> None:
        """Copy the first process's weights and optimizer state to all."""

    def announce_end(self) -> None:
        """From the first process: training has ended, in success or failure, and will now be recorded."""


class ProcessGroup(SingleProcess):
    """This process as one of several. Created by `join`."""

    def __init__(self, store: Any, rank: int, size: int, local_rank: int, local_size: int) -> None:
        self.rank, self.size = rank, size
        self._local_rank, self._local_size = local_rank, local_size
        self._store = store
        self._machine: ComputeDevice | None = None
        self._device_group: Any = None
        self._flat: Tensor | None = None
        self._views: list[Tensor] = []

    def machine(self, train: TrainConfig) -> ComputeDevice:
        """Each process gets a GPU of its own, or its share of the CPU cores."""
        threads = train.threads or max(1, n_cores() // self._local_size)
        chosen = device.choose(dataclasses.replace(train, threads=threads))
        kind = chosen.device.type
        if kind == "mps":
            raise UsageError("several processes cannot train on mps", "use --device cpu, or one process")
        if kind == "cuda":
            available = torch.cuda.device_count()
            if self._local_size > available:
                raise UsageError(
                    f"--nproc {self._local_size}: there are {available} CUDA devices here",
                    f"use --nproc {available} at most",
                )
            torch.cuda.set_device(self._local_rank)
            chosen = dataclasses.replace(chosen, device=torch.device("cuda", self._local_rank))
        self._machine = chosen
        return chosen

    # --- during training ----------------------------------------------------------------------------------------------

    def sum(self, *values: float) -> tuple[float, ...]:
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64)
        with _exchange():
            dist.all_reduce(tensor)
        return tuple(tensor.tolist())

    def from_first(self, value: float) -> float:
        return self.sum(value if self.is_first else 0.0)[0]

    def add_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        import torch.distributed as dist

        flat = self._buffer(parameters)
        for parameter, view in zip(parameters, self._views, strict=True):
            if parameter.grad is None:  # this process has no row of the step
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = view
        flat[-1] = loss  # travels with the gradients, which saves a collective
        with _exchange():
            dist.all_reduce(flat, group=self._device_group)
        return flat[-1].clone()

    def _buffer(self, parameters: Sequence[Tensor]) -> Tensor:
        """One contiguous buffer for all gradients and the loss; `_views` are the gradients' slices of it."""
        if self._flat is None:
            counts = [parameter.numel() for parameter in parameters]
            self._flat = torch.zeros(sum(counts) + 1, device=parameters[0].device, dtype=parameters[0].dtype)
            pieces = torch.split(self._flat[:-1], counts)
            self._views = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
        return self._flat

    def seed_step(self, seed: int, step: int) -> None:
        # The seed depends on step and rank alone, so that a resume draws the same masks although the checkpoint holds
        # the generator of the first process only.
        digest = hashlib.blake2b(f"{seed}:{step}:{self.rank}".encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "big") >> 1)

    # --- set-up and end -----------------------------------------------------------------------------------------------

    def share_setup(self, setup: dict[str, Any]) -> None:
        """From the first process: send the others the JSON object that they need to take part."""
        self._store.set(_SETUP_READY, "1")
        self._broadcast(json.dumps(setup).encode())

    def await_setup(self) -> dict[str, Any] | None:
        """In the others: what the first process sends, however long its set-up takes; None if the run ended instead.

        The store is polled because a collective would time out: set-up may train a tokenizer for an hour.
        """
        while not self._has(_SETUP_READY):
            if self.ended() is not None:
                return None
            time.sleep(_POLL_SECONDS)
        setup: dict[str, Any] = json.loads(self._broadcast(None))
        return setup

    def share_state(self, model: GPT, optimizers: Optimizers) -> None:
        import torch.distributed as dist

        if self.is_first:
            tensors = {_WEIGHTS + name: tensor for name, tensor in model.state_dict().items()}
            tensors |= {_STATE + name: tensor for name, tensor in optimizers.state().items()}
            self._broadcast(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
        else:
            tensors = load(self._broadcast(None))
            model.load_state_dict(_with_prefix(_WEIGHTS, tensors))
            if state := _with_prefix(_STATE, tensors):
                optimizers.load_state(state)
        if self._machine is not None and self._machine.device.type == "cuda":
            with _exchange():
                self._device_group = dist.new_group(backend="nccl", timeout=_TIMEOUT)

    def announce_end(self) -> None:
        with contextlib.suppress(PeerLostError), _exchange():
            self._store.set(_ENDING, "1")

    def end(self, state: str, message: str, exit_code: int) -> None:
        """From the first process: the run has ended like this, and its end is recorded in the run folder."""
        with _exchange():
            self._store.set(_ENDED, json.dumps({"state": state, "message": message, "exit_code": exit_code}))

    def ended(self) -> dict[str, Any] | None:
        """How the run ended, by the first process (`state`, `message`, `exit_code`); None while it goes on."""
        if not self._has(_ENDED):
            return None
        with _exchange():
            end: dict[str, Any] = json.loads(self._store.get(_ENDED))
        return end

    def await_end(self, timeout_seconds: float) -> dict[str, Any] | None:
        """How the run ended; None if the first process has not even announced its end within the timeout."""
        deadline = time.monotonic() + timeout_seconds
        while (end := self.ended()) is None and (time.monotonic() < deadline or self._has(_ENDING)):
            time.sleep(_POLL_SECONDS)
        return end

    def _has(self, key: str) -> bool:
        with _exchange():
            return bool(self._store.check([key]))

    def _broadcast(self, data: bytes | None) -> bytes:
        """The first process's bytes."""
        import torch.distributed as dist

        length = torch.tensor([len(data or b"")])
        with _exchange():
            dist.broadcast(length, src=0)
            content = torch.empty(int(length), dtype=torch.uint8)
            if data is not None:
                content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            dist.broadcast(content, src=0)
        return content.numpy().tobytes()


def join() -> ProcessGroup:
    """Connect to the other processes of the run that torchrun's environment names. Raises PeerLostError.

    Collectives on the CPU use gloo; those on a GPU use NCCL, from `share_state` on.
    """
    import torch.distributed as dist

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    rank, size, local_rank, local_size, port = (int(os.environ[name]) for name in names)
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    with _exchange():
        tcp = dist.TCPStore(  # type: ignore[attr-defined]  # in its documentation, not in its list of exports
            os.environ["MASTER_ADDR"], port, size, serves, _TIMEOUT, False
        )
        store = dist.PrefixStore("storyteller", tcp)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    return ProcessGroup(store, rank, size, local_rank, local_size)


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    """Raise PeerLostError if an exchange fails inside the block: the other process has ended or does not answer."""
    try:
        yield
    except RuntimeError as error:
        if memory.is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise PeerLostError(f"another process of this run has ended ({reason})", "its own log says why") from error


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
