"""Pages for a browser: every text is only text, nothing is loaded, colours can be read, files are whole."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.charts import Marks, Series
from storyteller.errors import DiskError, UsageError
from storyteller.reports.html import POLICY, HtmlPage, Markup, element, write
from storyteller.reports.style import COLORS, DARK, LIGHT, stylesheet
from storyteller.reports.svg_plots import Dot, dots, grid, lines
from storyteller.text import safe

HOSTILE = [
    "</style><script>alert(1)</script>",
    '" onload="alert(1)',
    "' style='position:fixed",
    "<!--",
    "]]>",
    "</title>",
    "</svg>",
    "&lt;b&gt;",
    "&#27;",
    "\x1b[2J\x1b]52;c;aGk=\x07",
    "\x00\r\x9b31m\u202e\u2028\ufeff",
    "\ud800",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
]
texts = st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1), min_size=1).map("".join)


class Reader(HTMLParser):
    """What a page is made of: tags with the names of their attributes, and the text."""

    def __init__(self, page: object) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.ends: list[str] = []
        self.values: list[str] = []
        self.words = ""
        self.others: list[str] = []
        self.feed(str(page))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.values += [value for _, value in attrs if value is not None]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.ends.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


def everything(text: str) -> HtmlPage:
    """A page that has the text wherever one can stand."""
    page = HtmlPage(text, lead=text, footer=text)
    page.heading(text, note=text)
    page.paragraph(text, element("em", text, title=text))
    page.note(text)
    page.warning(text)
    page.facts([(text, text)])
    page.facts([(text, text)], large=True)
    page.table((text, text), [(text, text)], caption=text)
    page.story(text, text, label=text, note=text)
    page.marked_story([("prompt", text), ("kept", text), ("new", text), ("", text)])
    page.code(text)
    with page.details(text), page.side_by_side():
        page.story(text, text)
    series = [Series(text, [0.0, 1.0], [1.0, 2.0], 0), Series(text, [0.0], [1.0], 1)]
    page.figure(lines(series, title=text, note=text, x_name=text, marks=[Marks([0.5], text, text)]), text)
    rows = [Dot(text, 0.5, 0.4, 0.6)]
    page.add(grid([dots(rows, title=text, note=text)]))
    return page


PLAIN = Reader(everything("plain"))


@settings(deadline=None, max_examples=40)
@given(texts)
def test_no_tag_and_no_attribute_of_a_page_comes_from_a_text(text: str) -> None:
    page = str(everything(text))
    read = Reader(page)
    assert read.tags == PLAIN.tags
    assert read.ends == PLAIN.ends
    assert read.others == []
    assert safe(text) in read.words
    assert safe(text) in read.values  # a label
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", page)
    page.encode("utf-8")


def test_a_page_may_load_nothing_and_run_nothing() -> None:
    page = str(everything("plain"))
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY.replace(chr(39), "&#x27;")}" />' in page
    assert POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert {tag for tag, _ in PLAIN.tags}.isdisjoint(("script", "img", "link", "iframe", "object", "form", "base"))
    names = {name for _, names in PLAIN.tags for name in names}
    assert names.isdisjoint(("src", "srcset", "action", "xlink:href"))
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in stylesheet() and "@import" not in stylesheet()
    assert all(value.startswith("#") for value in re.findall(r'href="([^"]*)"', page))


def test_a_page_says_its_language_its_width_and_that_it_knows_the_dark() -> None:
    page = str(HtmlPage("A run"))
    assert page.startswith('<!doctype html>\n<html lang="en"><head><meta charset="utf-8" />')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1" />' in page
    assert '<meta name="color-scheme" content="light dark" />' in page
    assert "<title>A run</title>" in page
    assert "<h1>A run</h1>" in page


def test_the_contents_name_each_heading_of_the_second_level_once_there_are_three() -> None:
    page = HtmlPage("A run")
    for words in ("Curves", "Stories"):
        page.heading(words)
    assert "<nav" not in str(page)
    page.heading("small", 3)
    page.heading("Settings")
    contents = re.search(r"<nav.*?</nav>", str(page))
    assert contents is not None
    assert re.findall(r'href="(#[^"]*)">([^<]*)<', contents[0]) == [
        ("#part-1", "Curves"),
        ("#part-2", "Stories"),
        ("#part-3", "Settings"),
    ]
    assert '<h2 id="part-3">Settings</h2>' in str(page)


def test_a_table_has_a_caption_names_its_rows_and_columns_and_tells_words_from_figures() -> None:
    page = HtmlPage("t")
    page.table(("run", "state", "steps"), [("fox", "done", "12"), ("owl", "died", "\u2013")], caption="Runs")
    assert (
        '<div class="scroll" role="region" tabindex="0" aria-label="Runs"><table><caption>Runs</caption><thead><tr>'
        '<th scope="col" class="words">run</th><th scope="col" class="words">state</th>'
        '<th scope="col" class="figure">steps</th></tr></thead><tbody><tr><th scope="row" class="words">fox</th>'
        '<td class="words">done</td><td class="figure">12</td></tr><tr><th scope="row" class="words">owl</th>'
        '<td class="words">died</td><td class="figure">\u2013</td></tr></tbody></table></div>'
    ) in str(page)


def test_a_column_of_sentences_keeps_its_width_on_a_phone() -> None:
    page = HtmlPage("t")
    page.table(
        ("what", "says"), [("loops", "words inside a sentence that the story already had"), ("x", "")], caption="c"
    )
    assert '<td class="words long">words inside' in str(page) and '<td class="words long"></td>' in str(page)
    assert "td.long{min-width:14rem}" in str(page)


def test_a_row_that_is_not_as_wide_as_the_head_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        HtmlPage("t").table(("a", "b"), [("1",)], caption="c")


def test_a_table_without_rows_has_its_head() -> None:
    page = HtmlPage("t")
    page.table(("a", "b"), [], caption="c")
    assert "<tbody></tbody>" in str(page)


@pytest.mark.parametrize("name", ["a b", "", "x>", "1a", "on\n"])
def test_a_name_that_is_none_makes_no_element(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of an element"):
        element(name)
    with pytest.raises(ValueError, match="is not the name of an element"):
        element("p", **{name: "x"})


def test_an_elements_attributes_are_written_as_they_are_meant() -> None:
    made = element("p", "a & b", Markup("<b>c</b>"), class_="x", aria_label='"', hidden=True, title=None, open=False)
    assert str(made) == '<p class="x" aria-label="&quot;" hidden>a &amp; b<b>c</b></p>'
    assert str(element("br")) == "<br />"


# --- colours ----------------------------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_what_they_stand_on(colors: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for ground in ("paper", "sheet"):
        for text in ("ink", "muted", "link", "alarm"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for i in range(COLORS):
            assert contrast(colors[f"line-{i}"], colors[ground]) >= 3, (i, ground)
    assert contrast(colors["ink"], colors["new"]) >= 4.5


def test_both_schemes_have_the_same_colours_and_every_colour_that_is_used_is_there() -> None:
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([a-z0-9-]+)", stylesheet())) - {"narrowest"}
    assert used == set(LIGHT)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_page_is_written_whole_and_replaces_a_page(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    first, second = HtmlPage("first"), HtmlPage("second \u2603")
    assert write(path, first) == len(str(first))
    size = write(path, second)
    assert path.read_text(encoding="utf-8") == str(second)
    assert size == path.stat().st_size
    assert [file.name for file in tmp_path.iterdir() if not file.is_dir()] == ["page.html"]


@pytest.mark.parametrize("there", [b"", b"\xef\xbb\xbf\n<!DOCTYPE HTML>x", b"<html lang='de'>"])
def test_a_page_of_whomever_or_an_empty_file_is_replaced(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(there)
    write(path, HtmlPage("new"))
    assert path.read_text(encoding="utf-8") == str(HtmlPage("new"))


@pytest.mark.parametrize("there", [b"my notes", b'{"schema": 1}', b"\x89PNG", b"<htmlx>", b"x<html>"])
def test_what_is_no_page_is_left_alone(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(there)
    with pytest.raises(UsageError, match=r"notes\.txt exists and is not an HTML page: name another file"):
        write(path, HtmlPage("new"))
    assert path.read_bytes() == there


def test_a_page_is_not_put_where_no_file_can_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="exists and is not an HTML page"):
            write(place, HtmlPage("new"))
    with pytest.raises(UsageError, match="is not a folder: create it, or name another file"):
        write(tmp_path / "none" / "page.html", HtmlPage("new"))
    with pytest.raises(UsageError, match="is not a valid file name"):
        write(tmp_path / "a\0b", HtmlPage("new"))
    with pytest.raises(DiskError, match=r"cannot be written: file name too long"):
        write(tmp_path / ("x" * 300), HtmlPage("new"))
