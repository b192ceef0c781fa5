"""Builds an HTML page in one file. It loads nothing, runs no scripts, and all text in it is escaped.

    page = HtmlPage("A run", lead="trained for five minutes")
    page.heading("Stories")
    page.story("Once", " there was a fox.", label="step 100")
    write(Path("report.html"), page)

A `str` is always text: it is made safe and escaped. Only `Markup`, which `element` and the plots return, is inserted
unchanged.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storyteller.errors import UsageError, write_error
from storyteller.reports.style import stylesheet
from storyteller.system.files import open_regular, write_text
from storyteller.text import safe, safe_line

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The Content-Security-Policy of a page: only inline styles are allowed."""

_VOID = frozenset(("br", "col", "hr", "img", "meta", "line", "path", "circle", "rect"))
"""Elements that are written as `<name />` when they are empty, which both HTML and SVG accept."""
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_HTML_START = re.compile(rb"\s*<(!doctype\s+html|html)[\s>]", re.IGNORECASE)
_HEAD_BYTES = 1024
_MAX_FIGURE_CHARS = 32
_LONG_CELL_CHARS = 40
_DASHES = ("", "-", "\u2013", "\u2014")


@dataclass(frozen=True)
class Markup:
    """HTML or SVG whose text is already escaped."""

    html: str

    def __str__(self) -> str:
        return self.html


Piece = str | Markup  # text, which will be escaped, or markup


def escaped(piece: Piece) -> str:
    """Returns a piece as HTML, also for use in attributes. In text, control characters become visible symbols."""
    return piece.html if isinstance(piece, Markup) else html.escape(safe(piece), quote=True)


def element(name: str, /, *pieces: Piece | None, **attributes: Piece | float | bool | None) -> Markup:
    """Returns `<name attributes>pieces</name>`, without the pieces that are None.

    In attribute names `_` becomes `-`, and one at the end is dropped (`class_`). True gives an attribute without a
    value; None and False leave it out. Names must not come from untrusted text.
    """
    words = [_checked(name)]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = _checked(key.rstrip("_").replace("_", "-"))
        text = value if isinstance(value, str | Markup) else f"{value:g}"
        words.append(key if value is True else f'{key}="{escaped(text)}"')
    start = " ".join(words)
    if name in _VOID and not pieces:
        return Markup(f"<{start} />")
    contents = "".join(escaped(piece) for piece in pieces if piece is not None)
    return Markup(f"<{start}>{contents}</{name}>")


def optional(name: str, piece: Piece, **attributes: str) -> Markup | None:
    """Returns an element with the piece in it; None if the piece is empty."""
    return element(name, piece, **attributes) if piece else None


class HtmlPage:
    """A document that is built from top to bottom. `str(page)` returns the HTML."""

    def __init__(self, title: str, *, lead: Piece = "", footer: Piece = "") -> None:
        """`lead` is shown below the title, `footer` at the end."""
        self._title = title
        self._lead = lead
        self._footer = footer
        self._sections: list[tuple[str, str]] = []  # anchor and text
        self._stack: list[list[Markup]] = [[]]

    def add(self, *markup: Markup) -> None:
        self._stack[-1] += markup

    def heading(self, text: str, level: int = 2, *, note: Piece = "") -> None:
        """Adds a heading with a small `note`. Headings of level 2 are listed in the table of contents."""
        if level not in (2, 3, 4):
            raise ValueError(f"no heading of level {level}")
        anchor = None
        if level == 2:
            anchor = f"part-{len(self._sections) + 1}"
            self._sections.append((anchor, text))
        self.add(element(f"h{level}", text, " " if note else None, optional("small", note), id=anchor))

    def paragraph(self, *pieces: Piece) -> None:
        self.add(element("p", *pieces))

    def note(self, *pieces: Piece) -> None:
        """Adds a paragraph in small print."""
        self.add(element("p", *pieces, class_="note"))

    def warning(self, *pieces: Piece) -> None:
        """Adds a highlighted paragraph, for example about missing data."""
        self.add(element("p", *pieces, class_="warning", role="note"))

    def facts(self, pairs: Sequence[tuple[str, Piece]], *, large: bool = False) -> None:
        """Adds a list of names and values; with `large`, a row of large figures."""
        rows = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
        self.add(element("dl", *rows, class_="tiles" if large else "facts"))

    def table(
        self,
        head: Sequence[Piece],
        rows: Sequence[Sequence[Piece]],
        *,
        caption: Piece,
        left: int | None = None,
        hide_caption: bool = False,
    ) -> None:
        """Adds a table. The first cell of a row is its header; wide tables scroll.

        The first `left` columns are aligned left, as text, and the others right, as figures. Without `left`, a column
        counts as figures if all its cells are short and contain a digit or a dash. Every table has a caption, though
        `hide_caption` shows it to screen readers only.
        """
        figures = [i > 0 and all(map(_is_figure, column)) for i, column in enumerate(zip(*rows, strict=True))]
        if left is not None or not rows:
            figures = [i >= (left or 1) for i in range(len(head))]
        # On a phone, columns of long text keep a readable width, and the table scrolls.
        long = [any(len(_plain(cell)) > _LONG_CELL_CHARS for cell in column) for column in zip(*rows, strict=True)]
        sides = ["figure" if is_figure else "words" for is_figure in figures]
        sides = [f"{side} long" if i and rows and long[i] else side for i, side in enumerate(sides)]
        columns = [element("th", cell, scope="col", class_=side) for cell, side in zip(head, sides, strict=True)]
        body = []
        for row in rows:
            first, *rest = zip(row, sides, strict=True)
            cells = [element("td", cell, class_=side) for cell, side in rest]
            body.append(element("tr", element("th", first[0], scope="row", class_=first[1]), *cells))
        named = element("caption", caption, class_="unseen" if hide_caption else None)
        table = element("table", named, element("thead", element("tr", *columns)), element("tbody", *body))
        # `tabindex` makes the scrolling box reachable by keyboard.
        self.add(element("div", table, class_="scroll", role="region", tabindex=0, aria_label=_plain(caption)))

    def story(self, prompt: str, text: str, *, label: Piece = "", note: Piece = "") -> None:
        """Adds a story, with the prompt in a lighter colour."""
        self.marked_story((("prompt", prompt), ("", text)), label=label, note=note)

    def marked_story(self, parts: Sequence[tuple[str, str]], *, label: Piece = "", note: Piece = "") -> None:
        """Adds a story in (kind, text) parts. `prompt` and `kept` are lighter, `new` is highlighted, "" is plain."""
        words = [
            text if not kind else element("mark", text) if kind == "new" else element("span", text, class_=kind)
            for kind, text in parts
        ]
        text = element("p", *words, dir="auto")
        self.add(element("article", optional("header", label), text, optional("footer", note), class_="story"))

    def figure(self, picture: Markup, caption: Piece = "") -> None:
        """Adds a plot with a caption."""
        self.add(element("figure", picture, optional("figcaption", caption)))

    def code(self, text: str) -> None:
        """Adds preformatted text, such as a command."""
        self.add(element("pre", element("code", text), tabindex=0))

    @contextlib.contextmanager
    def details(self, summary: Piece) -> Iterator[None]:
        """Collapses what is added inside the `with` block behind a summary."""
        with self._within() as inside:
            yield
        self.add(element("details", element("summary", summary), *inside))

    @contextlib.contextmanager
    def side_by_side(self, narrowest_rem: float = 20) -> Iterator[None]:
        """Puts what is added inside the `with` block into columns of at least this width, if there is room."""
        with self._within() as inside:
            yield
        self.add(element("div", *inside, class_="grid", style=f"--narrowest:{narrowest_rem:g}rem"))

    @contextlib.contextmanager
    def _within(self) -> Iterator[list[Markup]]:
        inside: list[Markup] = []
        self._stack.append(inside)
        try:
            yield inside
        finally:
            self._stack.pop()

    def __str__(self) -> str:
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="referrer", content="no-referrer"),
            element("meta", name="generator", content="storyteller"),
            element("title", safe_line(self._title, 200)),
            element("style", Markup(stylesheet())),
        )
        header = element("header", element("h1", self._title), optional("p", self._lead, class_="lead"))
        contents = None
        if len(self._sections) > 2:
            links = [element("li", element("a", words, href=f"#{anchor}")) for anchor, words in self._sections]
            contents = element("nav", element("ul", *links), aria_label="Contents")
        footer = optional("footer", self._footer, class_="end")
        body = element("body", header, contents, element("main", *self._stack[0]), footer)
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def write(path: Path, page: HtmlPage) -> int:
    """Writes the page to a file, atomically; returns its size in bytes.

    Replaces an HTML page. Raises UsageError if the file exists and is anything else, or if its folder does not exist,
    and DiskError if it cannot be written.
    """
    check_writable(path)
    text = str(page)
    try:
        write_text(path, text)
    except OSError as error:
        raise write_error(safe_line(str(path), 200), error, "name another file") from error
    return len(text.encode("utf-8", "backslashreplace"))


def check_writable(path: Path) -> None:
    """Raises what `write` would raise for this path. Call it before long work."""
    shown = safe_line(str(path), 200)
    if "\0" in str(path):
        raise UsageError(f"{shown} is not a valid file name", "name another file")
    try:
        if path.exists() and not _is_page(path):
            raise UsageError(f"{shown} exists and is not an HTML page", "name another file")
        if not path.parent.is_dir():
            raise UsageError(f"{safe_line(str(path.parent), 200)} is not a folder", "create it, or name another file")
    except OSError as error:
        raise write_error(shown, error, "name another file") from error


def _is_page(path: Path) -> bool:
    """True if the file is an HTML page or empty, so that it may be replaced."""
    try:
        with open_regular(path) as file:
            beginning = file.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    return not beginning or _HTML_START.match(beginning) is not None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an element or attribute")
    return name


def _is_figure(piece: Piece) -> bool:
    text = _plain(piece)
    return len(text) <= _MAX_FIGURE_CHARS and (text in _DASHES or any(map(str.isdecimal, text)))


def _plain(piece: Piece) -> str:
    """A piece as text, without tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", piece.html)) if isinstance(piece, Markup) else piece
