"""The device and precision of training, and the peak speed of the device."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from storyteller.config.configs import TrainConfig
from storyteller.errors import UsageError
from storyteller.model import compat
from storyteller.system.hardware import n_cores, processor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ComputeDevice:
    """The device, precision and CPU threads of a run."""

    device: torch.device
    precision: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The type of matrix products."""
        return DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """A context in which matrix products have the run's precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.precision != "fp32")

    def describe(self) -> dict[str, object]:
        """The fields of `run.json`: device, its name, threads, precision."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor()
        return {
            "device": self.device.type,
            "processor": name,
            "threads": self.threads,
            "precision": self.precision,
        }


def choose(train: TrainConfig) -> ComputeDevice:
    """Choose the device and precision of a run, and set torch's threads. Raises UsageError if the device is missing."""
    threads = train.threads or n_cores()
    torch.set_num_threads(threads)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = train.device if train.device != "auto" else next(k for k in ("cuda", "mps", "cpu") if available[k])
    if not available[kind]:
        raise UsageError(f"--device {kind}: torch finds no such device", "use --device auto, or run storyteller doctor")
    precision = train.precision if train.precision != "auto" else best_precision(kind)
    return ComputeDevice(torch.device(kind), precision, threads)


def best_precision(kind: str) -> str:
    """The fastest precision that trains well: bf16 only if the processor computes it natively."""
    if has_bf16(kind):
        return "bf16"
    return "fp16" if kind == "cuda" else "fp32"


def has_bf16(kind: str) -> bool:
    """True if this device has instructions for bf16 matrix products. Without them autocast is slower than fp32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and compat.cpu_multiplies_bf16()


def peak_flops(machine: ComputeDevice, seconds: float = 0.3) -> float:
    """FLOP/s of a large matrix product at the run's precision, by measurement: 100 % MFU."""
    n = 8192 if machine.device.type == "cuda" else 1024
    # From a generator of its own: drawing from the global one would change what follows.
    a = torch.rand(n, n, generator=torch.Generator().manual_seed(0)).to(machine.device, machine.dtype)
    best, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        a @ a
        if machine.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2.0 * n**3 / (time.perf_counter() - start))
    return best


def rng_state() -> dict[str, torch.Tensor]:
    """The states of torch's global random generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng_state(states: dict[str, torch.Tensor]) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
