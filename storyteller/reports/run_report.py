"""The report itself, from its first line to its last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storyteller.charts import duration
from storyteller.config.configs import STARTER
from storyteller.evaluation.model_card.card import Card, named, spread
from storyteller.reports import reproduce_command
from storyteller.reports.card_page import put as put_card
from storyteller.reports.html import HtmlPage, Piece, element
from storyteller.reports.run_report_curves import put_curves
from storyteller.reports.run_snapshot import EarlierRun, RunSnapshot, mapping, starter_card
from storyteller.tracking.compare_runs import Result, compare_runs, shown
from storyteller.tracking.curves import X
from storyteller.tracking.sample_history import SampleRecord

_MOST_STORIES = 8
"""Of a prompt: the first, the last, and some between, closer together where a model changes faster."""
_MOST_CHARS = 1500
_MOST_PROMPTS = 6
_LONGEST_VALUE = 300


def report_page(portraits: Sequence[RunSnapshot], by: X | None = None, earlier: Sequence[EarlierRun] = ()) -> HtmlPage:
    """The page of one run or several.

    `by` is what the curves' x axis counts (None: steps for one run, else tokens); `earlier` are runs that one run is
    held against.
    """
    names = [portrait.name for portrait in portraits]
    several = len(portraits) > 1
    title = f"{', '.join(names[:-1])} and {names[-1]}" if several else names[0]
    page = HtmlPage(title, lead=_lead(portraits), footer=_footer(portraits))
    _put_missing(page, portraits)
    if not several:
        _put_tiles(page, portraits[0])
    else:
        _put_results(page, portraits)
        _put_differences(page, portraits)
    put_curves(page, portraits, by or ("tokens" if several else "step"))
    if several:
        _put_last_stories(page, portraits)
        _put_cards(page, [(portrait.name, portrait.card[1]) for portrait in portraits if portrait.card is not None])
    else:
        _put_growth(page, portraits[0])
        _put_card(page, portraits[0])
        _put_beside(page, portraits[0], earlier)
        _put_settings(page, portraits[0])
    _put_making(page, portraits)
    return page


# --- the top ----------------------------------------------------------------------------------------------------------


def _lead(portraits: Sequence[RunSnapshot]) -> str:
    if len(portraits) > 1:
        return f"{len(portraits)} runs side by side."
    portrait = portraits[0]
    model, result = portrait.section("model"), portrait.result
    shape = ", ".join(
        f"{words} {shown(model[name])}"
        for name, words in (
            ("n_layer", "layers"),
            ("n_embd", "width"),
            ("n_head", "heads"),
            ("context", "context"),
            ("vocab_size", "vocabulary"),
        )
        if name in model
    )
    size = f" of {result.parameters:,} parameters" if result.parameters is not None else ""
    sentence = f"A model{size}{f' ({shape})' if shape else ''} that tells small stories, trained from scratch"
    if result.seconds is not None:
        sentence += f" for {duration(result.seconds)}"
    where = _where(portrait)
    return f"{sentence}{f' on {where}' if where else ''}. The run {_STATES.get(result.state, result.state)}."


_STATES = {
    "finished": "has finished",
    "stopped": "was stopped",
    "failed": "has failed",
    "died": "ended without a word",
    "running": "was still training when this was written",
    "starting": "was just starting when this was written",
    "waiting": "was waiting for stories when this was written",
    "stopping": "was stopping when this was written",
}


def _where(portrait: RunSnapshot) -> str:
    host = portrait.section("host")
    words = [shown(host[name]) for name in ("processor", "device") if isinstance(host.get(name), str)]
    return words[0] if words else ""


def _footer(portraits: Sequence[RunSnapshot]) -> str:
    made = sorted({str(made) for portrait in portraits if (made := portrait.section("versions").get("storyteller"))})
    return f"Made by storyteller, of runs of version {', '.join(made)}." if made else "Made by storyteller."


def _put_missing(page: HtmlPage, portraits: Sequence[RunSnapshot]) -> None:
    for portrait in portraits:
        for words in portrait.missing:
            whose = (element("b", portrait.name), ": ") if len(portraits) > 1 else ()
            page.warning(*whose, words)
        if portrait.summary.state in ("failed", "died") and portrait.summary.message:
            page.warning("It ended with: ", portrait.summary.message)


def _put_tiles(page: HtmlPage, portrait: RunSnapshot) -> None:
    result = portrait.result
    values = (
        ("held-out bits per byte", result.last_bpb, "{:.4f}"),
        ("the best of them", result.best_bpb if result.best_bpb != result.last_bpb else None, "{:.4f}"),
        ("training loss, nats a token", result.train_loss, "{:.4f}"),
        ("steps", result.steps, "{:,}"),
        ("tokens", result.tokens, "{:,}"),
        ("tokens a second", result.tokens_per_second, "{:,.0f}"),
    )
    tiles = [(name, form.format(value)) for name, value, form in values if value is not None]
    if tiles:
        page.figures(tiles)


# --- several runs -----------------------------------------------------------------------------------------------------


def _put_results(page: HtmlPage, portraits: Sequence[RunSnapshot]) -> None:
    page.heading("What came of them")
    rows = [_result_row(portrait.name, portrait.result) for portrait in portraits]
    page.table(("run", *_RESULTS), rows, caption=_scored_alike(portraits))


_RESULTS = ("state", "parameters", "steps", "tokens", "trained", "tokens/s", "loss", "bits per byte", "best")


def _result_row(name: Piece, result: Result) -> list[Piece]:
    """A run as a row of `_RESULTS`."""
    return [
        name,
        result.state,
        _said(result.parameters, "{:,}"),
        _said(result.steps, "{:,}"),
        _said(result.tokens, "{:,}"),
        duration(result.seconds) if result.seconds is not None else "\u2013",
        _said(result.tokens_per_second, "{:,.0f}"),
        _said(result.train_loss, "{:.4f}"),
        _said(result.last_bpb, "{:.4f}"),
        _said(result.best_bpb, "{:.4f}"),
    ]


def _scored_alike(portraits: Sequence[RunSnapshot]) -> str:
    """Whether the figures of held-out stories may be compared, as a sentence."""
    scored = {portrait.scored_on for portrait in portraits if portrait.result.best_bpb is not None}
    if len(scored) == 1 and "" not in scored:
        return "All were scored on the same held-out stories, so their bits per byte compare."
    if "" in scored:
        return "Bits per byte compare only where the held-out stories are the same; of some runs they are not known."
    return "The runs were scored on different held-out stories: their bits per byte do not compare."


def _put_differences(page: HtmlPage, portraits: Sequence[RunSnapshot]) -> None:
    curves = {portrait.name: portrait.curves for portrait in portraits}
    compared = compare_runs([portrait.folder for portrait in portraits], curves)
    page.heading("Where their settings differ")
    if not compared.differences:
        page.paragraph("They do not.")
        return
    rows: list[Sequence[Piece]] = [
        (key, *(_short(shown(value)) for value in values)) for key, values in compared.differences
    ]
    page.table(
        ("setting", *compared.names),
        rows,
        caption="Settings that are not the same in all runs, and what each run came to by itself.",
        left=len(portraits) + 1,
    )


def _put_last_stories(page: HtmlPage, portraits: Sequence[RunSnapshot]) -> None:
    prompts = list(dict.fromkeys(prompt for portrait in portraits for prompt in portrait.growth.prompts))
    if not prompts:
        return
    page.heading("What they tell", note="the newest story of each")
    for prompt in prompts[:_MOST_PROMPTS]:
        page.heading(f"\u201c{_short(prompt)}\u201d", 3)
        with page.side_by_side(17):
            for portrait in portraits:
                steps = portrait.growth.steps(prompt)
                if steps and (told := portrait.growth.at(prompt, steps[-1])) is not None:
                    _put_story(page, portrait, told, f"{portrait.name}, step {told.step:,}")


# --- how it learned to speak ------------------------------------------------------------------------------------------


def _put_growth(page: HtmlPage, portrait: RunSnapshot) -> None:
    growth = portrait.growth
    if not growth.prompts:
        return
    page.heading("How it learned to speak", note="the same prompts and seed each time")
    for i, prompt in enumerate(growth.prompts[:_MOST_PROMPTS]):
        if i == 0:
            _put_prompt(page, portrait, prompt)
            continue
        with page.details(f"\u201c{_short(prompt)}\u201d"):
            _put_prompt(page, portrait, prompt)
    told = sum(len(growth.steps(prompt)) for prompt in growth.prompts)
    page.note(f"{told:,} stories were told during training; ", element("code", f"storyteller timeline {portrait.name}"),
              " shows one prompt at every step, and tells what is missing.")  # fmt: skip


def _put_prompt(page: HtmlPage, portrait: RunSnapshot, prompt: str) -> None:
    for step in picked(portrait.growth.steps(prompt), _MOST_STORIES):
        if (told := portrait.growth.at(prompt, step)) is not None:
            _put_story(page, portrait, told, f"step {step:,}")


def picked(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps: the first, the last, and between them those nearest to its half, quarter, ..."""
    if len(steps) <= most:
        return list(steps)
    chosen = {steps[0], steps[-1]}
    wanted = [steps[-1] / 2**i for i in range(1, most - 1)]
    for want in wanted:
        chosen.add(min(steps, key=lambda step: abs(step - want)))
    left = [step for step in steps if step not in chosen]
    while len(chosen) < most and left:  # several wanted the same one: the later ones are worth more
        chosen.add(left.pop())
    return sorted(chosen)


def _put_story(page: HtmlPage, portrait: RunSnapshot, told: SampleRecord, label: str) -> None:
    bpb = portrait.bpb_at(told.step)
    words = [f"{bpb:.4f} bits per byte"] if bpb is not None else []
    text = told.text[:_MOST_CHARS] + ("\u2026" if len(told.text) > _MOST_CHARS else "")
    if not told.finished:
        words.append("cut at its length")
    page.story(told.prompt[:_MOST_CHARS], text, label=label, note=", ".join(words))


# --- what was measured of the stories ---------------------------------------------------------------------------------


def _put_card(page: HtmlPage, portrait: RunSnapshot) -> None:
    if portrait.card is None:
        return
    step, card = portrait.card
    page.heading("How good its stories are", note=f"its card, step {step:,}")
    put_card(page, card, level=3)
    if (starter := starter_card()) is not None:
        page.heading("Beside the starter", 3)
        _put_figures(page, [(portrait.name, card), (STARTER, starter)])


def _put_cards(page: HtmlPage, cards: Sequence[tuple[str, Card]]) -> None:
    if cards:
        page.heading("How good their stories are", note="their newest cards")
        _put_figures(page, cards)


def _put_figures(page: HtmlPage, cards: Sequence[tuple[str, Card]]) -> None:
    """Each measure, a column a model, and the same of real stories."""
    known = {figure.key: figure for _, card in cards for figure in card.figures}
    rows: list[Sequence[Piece]] = []
    for key, figure in known.items():
        values = [found.value if (found := card.figure(key)) is not None else None for _, card in cards]
        rows.append((named(figure), *(spread(figure, value) for value in values), spread(figure, figure.real)))
    page.table(
        ("measure", *(name for name, _ in cards), "real stories"),
        rows,
        caption="Each with its 95 % interval. Bits per byte compare only where the stories are the same.",
        left=1,
    )


# --- beside others ----------------------------------------------------------------------------------------------------


def _put_beside(page: HtmlPage, portrait: RunSnapshot, earlier: Sequence[EarlierRun]) -> None:
    """The runs before it, the newest first."""
    if not earlier:
        return
    page.heading("Beside earlier runs")
    rows = [[*_result_row(element("strong", portrait.name), portrait.result), "\u2013"]]
    for other in earlier:
        known = bool(portrait.scored_on and other.scored_on)
        same = "not known" if not known else "the same" if portrait.scored_on == other.scored_on else "others"
        rows.append([*_result_row(other.result.name, other.result), same])
    page.table(
        ("run", *_RESULTS, "held-out stories"),
        rows,
        caption="Bits per byte compare only where the held-out stories are the same.",
    )
    names = " ".join((portrait.name, *(other.result.name for other in earlier[:2])))
    page.note(element("code", f"storyteller report {names}"), " lays their curves over each other.")


# --- how it was made --------------------------------------------------------------------------------------------------


def _put_settings(page: HtmlPage, portrait: RunSnapshot) -> None:
    config = portrait.section("config")
    if not config:
        return
    preset = str(config.get("preset", "?"))
    page.heading("Settings", note=f"preset {preset}")
    changed = reproduce_command.differences(config)
    if changed:
        page.table(
            ("setting", "this run", f"preset {preset}"),
            [(key, _short(shown(value)), _short(shown(before))) for key, value, before in changed],
            caption="What is not as the preset has it.",
            left=3,
        )
    else:
        page.paragraph("All are as the preset has them.")
    with page.details("All settings"):
        for section, values in config.items():
            if isinstance(values, dict):
                page.heading(section, 3)
                page.facts([(name, _short(shown(value))) for name, value in values.items()])


def _put_making(page: HtmlPage, portraits: Sequence[RunSnapshot]) -> None:
    page.heading("How to train it again" if len(portraits) == 1 else "How to train them again")
    for portrait in portraits:
        if len(portraits) > 1:
            page.heading(portrait.name, 3)
        command = reproduce_command.command(portrait.run)
        if command:
            page.code(command)
        else:
            page.paragraph("The run did not write down what that would take.")
        if command and portrait.setting("train", "minutes") is not None:
            page.note("Its budget was time: another machine, or a busier one, gets another number of steps.")
        _put_facts(page, portrait)


def _put_facts(page: HtmlPage, portrait: RunSnapshot) -> None:
    """Stories, tokenizer, machine and versions, folded up."""
    run = portrait.run
    parts = {name: portrait.section(name) for name in ("data", "tokenizer", "host", "versions")}
    asked = {name: run[name] for name in ("created_at", "command", "seed", "git_commit") if run.get(name) is not None}
    if any(parts.values()) or asked:
        with page.details("Stories, machine and versions"):
            for name, values in ({"run": asked} | parts).items():
                if values:
                    page.heading(_PARTS[name], 3)
                    page.facts([(str(key), _short(_flat(value))) for key, value in values.items()])


_PARTS = {"run": "Run", "data": "Stories", "tokenizer": "Tokenizer", "host": "Machine", "versions": "Versions"}


def _flat(value: Any) -> str:
    return (
        ", ".join(f"{key} {shown(inner)}" for key, inner in mapping(value).items()) if mapping(value) else shown(value)
    )


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST_VALUE else f"{words[: _LONGEST_VALUE - 1]}\u2026"


def _said(value: float | None, form: str) -> str:
    return "\u2013" if value is None else form.format(value)
