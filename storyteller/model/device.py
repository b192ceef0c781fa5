"""Which processor trains, at which precision, and what it can do at most."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from storyteller.config.configs import TrainConfig
from storyteller.errors import UsageError
from storyteller.system.hardware import n_cores, processor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ComputeDevice:
    """The processor chosen for a run."""

    device: torch.device
    precision: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The type that matrix products are computed in."""
        return DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """A context in which matrix products take the run's precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.precision != "fp32")

    def describe(self) -> dict[str, object]:
        """For `run.json`: device, its name, threads, precision."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor()
        return {
            "device": self.device.type,
            "processor": name,
            "threads": self.threads,
            "precision": self.precision,
        }


def choose(train: TrainConfig) -> ComputeDevice:
    """The device and precision of a run; sets torch's threads. Raises UsageError where what was asked is not there."""
    threads = train.threads or n_cores()
    torch.set_num_threads(threads)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = train.device if train.device != "auto" else next(k for k in ("cuda", "mps", "cpu") if there[k])
    if not there[kind]:
        raise UsageError(f"--device {kind}: torch sees none here", "take --device auto, or look at storyteller doctor")
    precision = train.precision if train.precision != "auto" else best_precision(kind)
    return ComputeDevice(torch.device(kind), precision, threads)


def best_precision(kind: str) -> str:
    """The quickest precision that trains well: bf16 only where the processor computes it natively."""
    if has_bf16(kind):
        return "bf16"
    return "fp16" if kind == "cuda" else "fp32"


def has_bf16(kind: str) -> bool:
    """Whether matrix products in bf16 are instructions of this processor. Without them autocast is slower than fp32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def peak_flops(machine: ComputeDevice, seconds: float = 0.3) -> float:
    """Floating-point operations a second of the largest matrix product, at the run's precision: what 100 % MFU is."""
    n = 8192 if machine.device.type == "cuda" else 1024
    # Of a generator of its own: drawing from torch's would change every run that measures.
    a = torch.rand(n, n, generator=torch.Generator().manual_seed(0)).to(machine.device, machine.dtype)
    best, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        a @ a
        if machine.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2.0 * n**3 / (time.perf_counter() - start))
    return best


def seed_state() -> dict[str, torch.Tensor]:
    """The states of torch's generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_seed_state(states: dict[str, torch.Tensor]) -> None:
    """What `seed_state` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
