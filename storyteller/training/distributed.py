"""What the processes of one run tell each other.

Every process reads the same steps and computes its share of their rows (`data.batches`); their gradients are added up,
and each takes the same step. That a step is taken, that the run stops or ends, and by which clock, is agreed on.

The gradients are added up by one collective over a flat buffer after the backward pass, rather than by
`DistributedDataParallel`: what is wanted is their sum, each already divided by the whole step's count of targets, also
over several passes and where a process has no row at all; and nothing of it has to fit the loss's own autograd function
or Muon. It gives up hiding the exchange behind the backward pass, which models of this size do not need.
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

_PATIENCE = datetime.timedelta(minutes=30)
"""For so long a process waits for another in a collective: while a checkpoint of a slow disk is saved, say."""
_POLL_SECONDS = 0.05
_WEIGHTS, _STATE = "weights/", "optimizer/"
_READY, _ENDING, _OVER = "ready", "ending", "over"


class SingleProcess:
    """One process: every exchange gives back what it was given, and `torch.distributed` is not needed."""

    rank = 0
    """Of this process, among those that train the run."""
    size = 1
    """How many processes train the run."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes the run folder and whose clock counts."""
        return self.rank == 0

    def machine(self, train: TrainConfig) -> ComputeDevice:
        """The device and precision of this process. Raises UsageError where what was asked is not there."""
        return device.choose(train)

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value, added up over all processes. Raises PeerLostError where another has ended."""
        return values

    def of_first(self, value: float) -> float:
        """The first process's value."""
        return value

    def add_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:  # noqa: ARG002
        """Add up the gradients of `parameters` over all processes, in their place, and `loss`, which is returned."""
        return loss

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch's generators for a step, where each process must draw its own."""

    def share_state(self, model: GPT, optimizers: Optimizers) -> None:
        """Give the first process's weights and state of the optimisers to all."""

    def ending(self) -> None:
        """Of the first process: training is over, well or not; what is left is to record it."""


class ProcessGroup(SingleProcess):
    """Several processes, one of them here. `join` makes it."""

    def __init__(self, store: Any, rank: int, size: int, local_rank: int, local_size: int) -> None:
        self.rank, self.size = rank, size
        self._local_rank, self._local_size = local_rank, local_size
        self._store = store
        self._machine: ComputeDevice | None = None
        self._over_device: Any = None
        self._flat: Tensor | None = None
        self._views: list[Tensor] = []

    def machine(self, train: TrainConfig) -> ComputeDevice:
        """Each process has a GPU of its own, or its part of the processor's cores."""
        threads = train.threads or max(1, n_cores() // self._local_size)
        chosen = device.choose(dataclasses.replace(train, threads=threads))
        kind = chosen.device.type
        if kind == "mps":
            raise UsageError("several processes cannot train on mps", "take --device cpu, or one process")
        if kind == "cuda":
            there = torch.cuda.device_count()
            if self._local_size > there:
                raise UsageError(
                    f"--nproc {self._local_size}: there are {there} CUDA devices here", f"take --nproc {there} at most"
                )
            torch.cuda.set_device(self._local_rank)
            chosen = dataclasses.replace(chosen, device=torch.device("cuda", self._local_rank))
        self._machine = chosen
        return chosen

    def sums(self, *values: float) -> tuple[float, ...]:
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64)
        with _peers():
            dist.all_reduce(tensor)
        return tuple(tensor.tolist())

    def of_first(self, value: float) -> float:
        return self.sums(value if self.is_first else 0.0)[0]

    def add_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        import torch.distributed as dist

        flat = self._buffer(parameters)
        for parameter, view in zip(parameters, self._views, strict=True):
            if parameter.grad is None:  # of a process that has no row of this step
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = view
        flat[-1] = loss
        with _peers():
            dist.all_reduce(flat, group=self._over_device)
        return flat[-1].clone()

    def _buffer(self, parameters: Sequence[Tensor]) -> Tensor:
        """One row of memory for all the gradients and the loss; `_views` are the gradients' places in it."""
        if self._flat is None:
            counts = [parameter.numel() for parameter in parameters]
            self._flat = torch.zeros(sum(counts) + 1, device=parameters[0].device, dtype=parameters[0].dtype)
            pieces = torch.split(self._flat[:-1], counts)
            self._views = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
        return self._flat

    def seed_step(self, seed: int, step: int) -> None:
        # From the step alone: a resume draws the same, and a checkpoint need not hold every process's generator.
        digest = hashlib.blake2b(f"{seed}:{step}:{self.rank}".encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "big") >> 1)

    # --- the beginning and the end ------------------------------------------------------------------------------------

    def share_plan(self, plan: dict[str, Any]) -> None:
        """Of the first process: tell the others what they need to take part; a JSON object."""
        self._store.set(_READY, "1")
        self._broadcast(json.dumps(plan).encode())

    def await_plan(self) -> dict[str, Any] | None:
        """Of the others: what the first process tells, however long its set-up takes; None where the run ended."""
        while not self._check(_READY):
            if self.over() is not None:
                return None
            time.sleep(_POLL_SECONDS)
        plan: dict[str, Any] = json.loads(self._broadcast(None))
        return plan

    def share_state(self, model: GPT, optimizers: Optimizers) -> None:
        import torch.distributed as dist

        if self.is_first:
            tensors = {_WEIGHTS + name: tensor for name, tensor in model.state_dict().items()}
            tensors |= {_STATE + name: tensor for name, tensor in optimizers.state().items()}
            self._broadcast(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
        else:
            tensors = load(self._broadcast(None))
            model.load_state_dict(_under(_WEIGHTS, tensors))
            if state := _under(_STATE, tensors):
                optimizers.load_state(state)
        if self._machine is not None and self._machine.device.type == "cuda":
            with _peers():
                self._over_device = dist.new_group(backend="nccl", timeout=_PATIENCE)

    def ending(self) -> None:
        with contextlib.suppress(PeerLostError), _peers():
            self._store.set(_ENDING, "1")

    def end(self, state: str, message: str, exit_code: int) -> None:
        """Of the first process: the run has ended so, and all of it is recorded."""
        with _peers():
            self._store.set(_OVER, json.dumps({"state": state, "message": message, "exit_code": exit_code}))

    def over(self) -> dict[str, Any] | None:
        """How the run ended, as the first process told (`state`, `message`, `exit_code`); None while it goes on."""
        if not self._check(_OVER):
            return None
        with _peers():
            told: dict[str, Any] = json.loads(self._store.get(_OVER))
        return told

    def await_over(self, timeout_seconds: float) -> dict[str, Any] | None:
        """How the run ended, or None where the first process has not even begun to end it in time."""
        deadline = time.monotonic() + timeout_seconds
        while (told := self.over()) is None and (time.monotonic() < deadline or self._check(_ENDING)):
            time.sleep(_POLL_SECONDS)
        return told

    def _check(self, key: str) -> bool:
        with _peers():
            return bool(self._store.check([key]))

    def _broadcast(self, data: bytes | None) -> bytes:
        """The first process's bytes."""
        import torch.distributed as dist

        length = torch.tensor([len(data or b"")])
        with _peers():
            dist.broadcast(length, src=0)
            content = torch.empty(int(length), dtype=torch.uint8)
            if data is not None:
                content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            dist.broadcast(content, src=0)
        return content.numpy().tobytes()


def join() -> ProcessGroup:
    """Meet the run's other processes, which torchrun's environment names. Raises PeerLostError where they don't come.

    The processor's collectives are gloo's; a GPU's are NCCL's, from `share_state` on.
    """
    import torch.distributed as dist

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    rank, size, local_rank, local_size, port = (int(os.environ[name]) for name in names)
    keeps = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    with _peers():
        tcp = dist.TCPStore(  # type: ignore[attr-defined]  # in its documentation, not in its list of exports
            os.environ["MASTER_ADDR"], port, size, keeps, _PATIENCE, False
        )
        store = dist.PrefixStore("storyteller", tcp)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return ProcessGroup(store, rank, size, local_rank, local_size)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Raises PeerLostError where an exchange fails inside: whoever it was with has ended, or does not answer."""
    try:
        yield
    except RuntimeError as error:
        if memory.is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise PeerLostError(f"another process of this run has ended ({reason})", "its own words say why") from error


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
