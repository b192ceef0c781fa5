"""`storyteller doctor`: describe this machine and check that training works on it."""

from __future__ import annotations

import time
from typing import Annotated, Any

from storyteller.cli.options import AsJson, RunsDir, option
from storyteller.cli.text_tables import note, out, out_json
from storyteller.system import hardware
from storyteller.tracking import run_folder


def doctor(
    as_json: AsJson = False,
    wait_seconds: Annotated[float, option("Time to wait for each server.", "--wait", metavar="SECONDS")] = 5.0,
    runs_dir: RunsDir = None,
) -> int:
    """Describe this machine and check, in a few seconds, that training learns the next token.

    Example: storyteller doctor
    """
    facts = _facts(wait_seconds, run_folder.runs_root(runs_dir))
    if not as_json:
        _print_facts(facts)
        note("training a tiny model ...")
    from storyteller.training import selfcheck

    began = time.perf_counter()
    checks = selfcheck.run()
    seconds = time.perf_counter() - began
    ok = all(check.ok for check in checks)
    if as_json:
        out_json(facts | {"checks": [vars(check) for check in checks], "ok": ok})
    else:
        for check in checks:
            out(f"{'ok  ' if check.ok else 'FAIL'}  {check.name} ({check.seen})")
        out(f"training works here ({seconds:.1f} s)" if ok else "training does not work correctly here")
    return 0 if ok else 1


def _facts(wait_seconds: float, root: Any) -> dict[str, Any]:
    from storyteller.config.configs import TrainConfig
    from storyteller.model import device

    chosen = device.choose(TrainConfig())
    return {
        "versions": hardware.versions(),
        "host": {
            **chosen.describe(),
            "cores": hardware.n_cores(),
            "cpu_bf16": device.has_bf16("cpu"),
            "memory_gib": round(hardware.memory_gib(), 1),
            "largest_matrix_product_gflops": round(device.peak_flops(chosen) / 1e9, 1),
        },
        "disk": {"runs_dir": str(root), "free_gib": round(hardware.free_disk_gib(root), 1)},
        "servers": {
            name: {"url": url, "answers": problem is None, "problem": problem}
            for name, url in (("hub", hardware.hub_url()), ("wandb", hardware.wandb_url()))
            for problem in [hardware.connection_error(url, wait_seconds)]
        },
    }


def _print_facts(facts: dict[str, Any]) -> None:
    out("  ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    host = facts["host"]
    out(
        f"device: {host['device']} ({host['processor']}), {host['threads']} threads, {host['memory_gib']} GiB, "
        f"{host['precision']} at up to {host['largest_matrix_product_gflops']:,.0f} GFLOP/s"
    )
    out(f"bf16 on the CPU: {'yes' if host['cpu_bf16'] else 'no'}")
    out(f"disk: {facts['disk']['free_gib']:,.1f} GiB free for {facts['disk']['runs_dir']}")
    for name, server in facts["servers"].items():
        state = "answers" if server["answers"] else f"does not answer ({server['problem']})"
        out(f"{name}: {server['url']} {state}")
