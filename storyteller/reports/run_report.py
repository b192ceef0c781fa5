"""Builds the HTML report of one run, or of several runs compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from storyteller.charts import format_duration
from storyteller.config.configs import STARTER
from storyteller.evaluation.model_card.card import Card, format_interval, title_with_unit
from storyteller.reports import reproduce_command
from storyteller.reports.card_page import add_card
from storyteller.reports.html import HtmlPage, Piece, element
from storyteller.reports.run_report_curves import add_curves
from storyteller.reports.run_snapshot import EarlierRun, RunSnapshot, mapping, starter_card
from storyteller.tracking.compare_runs import RunResult, compare_runs, format_setting
from storyteller.tracking.curves import X
from storyteller.tracking.sample_history import SampleRecord

_MAX_STORIES = 8  # per prompt
_MAX_CHARS = 1500
_MAX_PROMPTS = 6
_MAX_VALUE_CHARS = 300


def report_page(snapshots: Sequence[RunSnapshot], by: X | None = None, earlier: Sequence[EarlierRun] = ()) -> HtmlPage:
    """Returns the page of one run, or of several.

    `by` is the x axis of the curves (None: steps for one run, else tokens). `earlier` are the runs that a single run is
    compared with.
    """
    *names, last = (snapshot.name for snapshot in snapshots)
    several = bool(names)
    title = f"{', '.join(names)} and {last}" if several else last
    page = HtmlPage(title, lead=_lead(snapshots), footer=_footer(snapshots))
    _add_missing(page, snapshots)
    if several:
        page.heading("Results")
        rows = [_result_row(snapshot.name, snapshot.result) for snapshot in snapshots]
        page.table(("run", *_RESULTS), rows, caption=_comparability(snapshots))
        _add_differences(page, snapshots)
    else:
        _add_tiles(page, snapshots[0])
    add_curves(page, snapshots, by or ("tokens" if several else "step"))
    if several:
        _add_last_samples(page, snapshots)
        if cards := [(snapshot.name, snapshot.card[1]) for snapshot in snapshots if snapshot.card is not None]:
            page.heading("Model cards", note="the newest of each run")
            _add_figures(page, cards)
    else:
        _add_samples(page, snapshots[0])
        _add_card(page, snapshots[0])
        _add_earlier(page, snapshots[0], earlier)
        _add_settings(page, snapshots[0])
    _add_commands(page, snapshots)
    return page


# --- the top ----------------------------------------------------------------------------------------------------------


def _lead(snapshots: Sequence[RunSnapshot]) -> str:
    if len(snapshots) > 1:
        return f"{len(snapshots)} runs compared."
    snapshot = snapshots[0]
    model, result = snapshot.section("model"), snapshot.result
    shape = ", ".join(f"{words} {format_setting(model[name])}" for name, words in _SHAPE.items() if name in model)
    size = f" of {result.parameters:,} parameters" if result.parameters is not None else ""
    sentence = f"A story model{size}{f' ({shape})' if shape else ''}, trained from scratch"
    if result.seconds is not None:
        sentence += f" for {format_duration(result.seconds)}"
    host = snapshot.section("host")
    names = [format_setting(host[name]) for name in ("processor", "device") if isinstance(host.get(name), str)]
    return f"{sentence}{f' on {names[0]}' if names else ''}. The run {_STATES.get(result.state, result.state)}."


_SHAPE = {"n_layer": "layers", "n_embd": "width", "n_head": "heads", "context": "context", "vocab_size": "vocabulary"}
_STATES = {
    "finished": "has finished",
    "stopped": "was stopped",
    "failed": "has failed",
    "died": "ended unexpectedly",
    "running": "was still training when this report was made",
    "starting": "was starting when this report was made",
    "waiting": "was waiting for stories when this report was made",
    "stopping": "was stopping when this report was made",
}


def _footer(snapshots: Sequence[RunSnapshot]) -> str:
    made = sorted({str(made) for snapshot in snapshots if (made := snapshot.section("versions").get("storyteller"))})
    return f"Made by storyteller from runs of version {', '.join(made)}." if made else "Made by storyteller."


def _add_missing(page: HtmlPage, snapshots: Sequence[RunSnapshot]) -> None:
    for snapshot in snapshots:
        for words in snapshot.missing:
            whose = (element("b", snapshot.name), ": ") if len(snapshots) > 1 else ()
            page.warning(*whose, words)
        if snapshot.summary.state in ("failed", "died") and snapshot.summary.message:
            page.warning("It ended with: ", snapshot.summary.message)


def _add_tiles(page: HtmlPage, snapshot: RunSnapshot) -> None:
    result = snapshot.result
    values = (
        ("held-out bits per byte", result.last_bpb, "{:.4f}"),
        ("best bits per byte", result.best_bpb if result.best_bpb != result.last_bpb else None, "{:.4f}"),
        ("training loss, nats per token", result.train_loss, "{:.4f}"),
        ("steps", result.steps, "{:,}"),
        ("tokens", result.tokens, "{:,}"),
        ("tokens per second", result.tokens_per_second, "{:,.0f}"),
    )
    if tiles := [(name, form.format(value)) for name, value, form in values if value is not None]:
        page.facts(tiles, large=True)


# --- several runs -----------------------------------------------------------------------------------------------------


_RESULTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "state": ("state", str),
    "parameters": ("parameters", "{:,}".format),
    "steps": ("steps", "{:,}".format),
    "tokens": ("tokens", "{:,}".format),
    "trained": ("seconds", format_duration),
    "tokens/s": ("tokens_per_second", "{:,.0f}".format),
    "loss": ("train_loss", "{:.4f}".format),
    "bits per byte": ("last_bpb", "{:.4f}".format),
    "best": ("best_bpb", "{:.4f}".format),
}
"""The columns of a table of runs: the field of `RunResult`, and its format."""


def _result_row(name: Piece, result: RunResult) -> list[Piece]:
    values = [(getattr(result, field), form) for field, form in _RESULTS.values()]
    return [name, *("\u2013" if value is None else form(value) for value, form in values)]


def _comparability(snapshots: Sequence[RunSnapshot]) -> str:
    """Says whether the bits per byte of these runs can be compared."""
    scored = {snapshot.scored_on for snapshot in snapshots if snapshot.result.best_bpb is not None}
    if len(scored) == 1 and "" not in scored:
        return "All runs were evaluated on the same held-out stories, so their bits per byte can be compared."
    if "" in scored:
        return "Bits per byte can be compared only on the same held-out stories, and those of some runs are not known."
    return "The runs were evaluated on different held-out stories: their bits per byte cannot be compared."


def _add_differences(page: HtmlPage, snapshots: Sequence[RunSnapshot]) -> None:
    curves = {snapshot.name: snapshot.curves for snapshot in snapshots}
    compared = compare_runs([snapshot.folder for snapshot in snapshots], curves)
    page.heading("Differing settings")
    if not compared.differences:
        page.paragraph("All settings are the same.")
        return
    page.table(
        ("setting", *compared.names),
        [(key, *map(_one_line, values)) for key, values in compared.differences],
        caption="Settings that are not the same in all runs, and values that a run chose itself.",
        left=len(snapshots) + 1,
    )


def _add_last_samples(page: HtmlPage, snapshots: Sequence[RunSnapshot]) -> None:
    prompts = list(dict.fromkeys(prompt for snapshot in snapshots for prompt in snapshot.samples.prompts))
    if not prompts:
        return
    page.heading("Samples", note="the newest of each run")
    for prompt in prompts[:_MAX_PROMPTS]:
        page.heading(f"\u201c{_shorten(prompt)}\u201d", 3)
        with page.side_by_side(17):
            for snapshot in snapshots:
                steps = snapshot.samples.steps(prompt)
                if steps and (sample := snapshot.samples.at(prompt, steps[-1])) is not None:
                    _add_story(page, snapshot, sample, f"{snapshot.name}, step {sample.step:,}")


# --- samples ----------------------------------------------------------------------------------------------------------


def _add_samples(page: HtmlPage, snapshot: RunSnapshot) -> None:
    samples = snapshot.samples
    if not samples.prompts:
        return
    page.heading("Samples during training", note="the same prompts and seed each time")
    first, *others = samples.prompts[:_MAX_PROMPTS]
    _add_prompt(page, snapshot, first)
    for prompt in others:
        with page.details(f"\u201c{_shorten(prompt)}\u201d"):
            _add_prompt(page, snapshot, prompt)
    n_samples = sum(len(samples.steps(prompt)) for prompt in samples.prompts)
    command = element("code", f"storyteller timeline {snapshot.name}")
    page.note(f"{n_samples:,} samples were generated during training; ", command, " shows one prompt at every step.")


def _add_prompt(page: HtmlPage, snapshot: RunSnapshot, prompt: str) -> None:
    for step in spread_steps(snapshot.samples.steps(prompt), _MAX_STORIES):
        if (sample := snapshot.samples.at(prompt, step)) is not None:
            _add_story(page, snapshot, sample, f"step {step:,}")


def spread_steps(steps: Sequence[int], most: int) -> list[int]:
    """Picks at most `most` steps: the first, the last, and those nearest to 1/2, 1/4, 1/8 ... of the last.

    A model changes faster early on, so early steps are picked closer together.
    """
    if len(steps) <= most:
        return list(steps)
    wanted = [steps[0], *(steps[-1] / 2**i for i in range(most - 1))]
    chosen = {min(steps, key=lambda step: abs(step - want)) for want in wanted}
    left = [step for step in steps if step not in chosen]
    while len(chosen) < most and left:  # some fractions share their nearest step: fill up with the latest steps
        chosen.add(left.pop())
    return sorted(chosen)


def _add_story(page: HtmlPage, snapshot: RunSnapshot, sample: SampleRecord, label: str) -> None:
    bpb = snapshot.bpb_at(sample.step)
    words = [f"{bpb:.4f} bits per byte"] if bpb is not None else []
    text = sample.text[:_MAX_CHARS] + ("\u2026" if len(sample.text) > _MAX_CHARS else "")
    if not sample.finished:
        words.append("cut off at the token limit")
    page.story(sample.prompt[:_MAX_CHARS], text, label=label, note=", ".join(words))


def _add_card(page: HtmlPage, snapshot: RunSnapshot) -> None:
    if snapshot.card is None:
        return
    step, card = snapshot.card
    page.heading("Model card", note=f"step {step:,}")
    add_card(page, card, level=3)
    if (starter := starter_card()) is not None:
        page.heading("Compared with the starter model", 3)
        _add_figures(page, [(snapshot.name, card), (STARTER, starter)])


def _add_figures(page: HtmlPage, cards: Sequence[tuple[str, Card]]) -> None:
    """A table of the measures: one column per model, and one for real stories."""
    known = {figure.key: figure for _, card in cards for figure in card.figures}
    rows = []
    for key, figure in known.items():
        values = [found.value if (found := card.figure(key)) is not None else None for _, card in cards]
        rows.append([title_with_unit(figure), *(format_interval(figure, value) for value in (*values, figure.real))])
    page.table(
        ("measure", *(name for name, _ in cards), "real stories"),
        rows,
        caption="With 95 % intervals. Bits per byte can be compared only on the same stories.",
        left=1,
    )


def _add_earlier(page: HtmlPage, snapshot: RunSnapshot, earlier: Sequence[EarlierRun]) -> None:
    if not earlier:
        return
    page.heading("Compared with earlier runs")
    rows = [[*_result_row(element("strong", snapshot.name), snapshot.result), "\u2013"]]
    for other in earlier:
        known = bool(snapshot.scored_on and other.scored_on)
        same = "unknown" if not known else "the same" if snapshot.scored_on == other.scored_on else "different"
        rows.append([*_result_row(other.result.name, other.result), same])
    page.table(
        ("run", *_RESULTS, "held-out stories"),
        rows,
        caption="Bits per byte can be compared only on the same held-out stories.",
    )
    names = " ".join((snapshot.name, *(other.result.name for other in earlier[:2])))
    page.note(element("code", f"storyteller report {names}"), " plots their curves together.")


# --- settings and environment -----------------------------------------------------------------------------------------


def _add_settings(page: HtmlPage, snapshot: RunSnapshot) -> None:
    config = snapshot.section("config")
    if not config:
        return
    preset = str(config.get("preset", "?"))
    page.heading("Settings", note=f"preset {preset}")
    if changed := reproduce_command.differences(config):
        page.table(
            ("setting", "this run", f"preset {preset}"),
            [(key, _one_line(value), _one_line(before)) for key, value, before in changed],
            caption="Settings that differ from the preset.",
            left=3,
        )
    else:
        page.paragraph("All settings are those of the preset.")
    with page.details("All settings"):
        for section, values in config.items():
            if isinstance(values, dict):
                page.heading(section, 3)
                page.facts([(name, _one_line(value)) for name, value in values.items()])


def _add_commands(page: HtmlPage, snapshots: Sequence[RunSnapshot]) -> None:
    page.heading("Reproduce this run" if len(snapshots) == 1 else "Reproduce these runs")
    for snapshot in snapshots:
        if len(snapshots) > 1:
            page.heading(snapshot.name, 3)
        if command := reproduce_command.command(snapshot.run):
            page.code(command)
        else:
            page.paragraph("The settings of the run are not known, so there is no command.")
        if command and snapshot.setting("train", "minutes") is not None:
            page.note("The budget is a time: a slower or busier machine takes fewer steps.")
        _add_facts(page, snapshot)


def _add_facts(page: HtmlPage, snapshot: RunSnapshot) -> None:
    """Adds the data, tokenizer, machine and versions, collapsed."""
    run = snapshot.run
    asked = {name: run[name] for name in ("created_at", "command", "seed", "git_commit") if run.get(name) is not None}
    titles = {"data": "Data", "tokenizer": "Tokenizer", "host": "Machine", "versions": "Versions"}
    parts = {"Run": asked} | {title: snapshot.section(name) for name, title in titles.items()}
    if any(parts.values()):
        with page.details("Data, machine and versions"):
            for title, values in parts.items():
                if values:
                    page.heading(title, 3)
                    page.facts([(str(key), _one_line(value)) for key, value in values.items()])


def _one_line(value: Any) -> str:
    pairs = [f"{key} {format_setting(inner)}" for key, inner in mapping(value).items()]
    return _shorten(", ".join(pairs) or format_setting(value))


def _shorten(words: str) -> str:
    return words if len(words) <= _MAX_VALUE_CHARS else f"{words[: _MAX_VALUE_CHARS - 1]}\u2026"
