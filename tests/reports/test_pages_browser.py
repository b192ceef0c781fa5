"""Pages in a real browser: they fit a phone, follow the system's colours, and nothing in a story runs."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from storyteller.reports.html import write
from storyteller.reports.run_report import report_page
from storyteller.reports.run_snapshot import read_snapshot
from storyteller.reports.style import DARK, LIGHT
from storyteller.tracking.metrics_log import JsonLog
from tests.reports.test_pages import HOSTILE, everything
from tests.support.tui_runs import make

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser of Chromium's family is installed"),
]

MEASURE = """
const seen = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, root = page.documentElement;
  const box = one => one.getBoundingClientRect();
  seen.push({
    width: frame.clientWidth,
    overflow: root.scrollWidth - root.clientWidth,
    scripts: page.scripts.length,
    titles: page.title,
    ground: frame.contentWindow.getComputedStyle(root).backgroundColor,
    stroke: [...page.querySelectorAll("path.s0")].slice(0, 1)
      .map(one => frame.contentWindow.getComputedStyle(one).stroke)[0],
    wide: [...page.querySelectorAll("p, pre, .story, .facts, .plot, figure, nav")]
      .filter(one => box(one).width && box(one).right > root.clientWidth + 1).length,
    lines: [...page.querySelectorAll("path.line")].filter(one => box(one).width > 50).length,
    small: [...page.querySelectorAll("svg text")]
      .filter(one => parseFloat(frame.contentWindow.getComputedStyle(one).fontSize) < 11).length,
    touched: window.touched || 0,
  });
}
document.body.textContent = JSON.stringify(seen);
"""
"""What a person would see of each page, measured by the page that holds them: their own scripts may not run."""


def seen(page: str, widths: list[int], tmp_path: Path, *, dark: bool = False) -> list[dict[str, object]]:
    """The page in frames of these widths, measured in a browser."""
    frames = "".join(
        f'<iframe width="{width}" height="900" style="border:0;display:block" srcdoc="{html.escape(page)}"></iframe>'
        for width in widths
    )
    holder = tmp_path / "holder.html"
    # Where a script of a story ran, it would reach its parent: the frames are of one origin.
    script = f"<script>onload = () => {{ {MEASURE} }}</script>"
    holder.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}{script}</body>", encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=5000",
            "--window-size=1400,1000",
            "--dump-dom",
            holder.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    found = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[:500]
    measured = json.loads(html.unescape(found[1]))
    assert isinstance(measured, list)
    return measured


def as_rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_report_fits_every_width_and_follows_the_systems_colours(tmp_path: Path, dark: bool) -> None:
    folders = [make(tmp_path / "runs", name, story=f" {name} told of the moon. " * 20) for name in ("fox", "owl")]
    with JsonLog(folders[0].samples) as log:
        log.append({"step": 100, "prompt": "Long", "text": "x" * 3000})
    pages = [str(report_page([read_snapshot(folder) for folder in some])) for some in (folders[:1], folders)]
    colors = DARK if dark else LIGHT
    for page in pages:
        for frame in seen(page, [320, 390, 768, 1200], tmp_path, dark=dark):
            assert (frame["overflow"], frame["wide"], frame["small"]) == (0, 0, 0), frame
            assert frame["ground"] == as_rgb(colors["paper"])
            assert frame["stroke"] == as_rgb(colors["line-0"])
            assert isinstance(frame["lines"], int) and frame["lines"] >= 2


def test_a_hostile_page_runs_nothing_and_keeps_its_width(tmp_path: Path) -> None:
    attack = "<img src=x onerror='parent.touched=1'><script>parent.touched=1</script>"
    text = "".join(HOSTILE[:-4]) + attack + "W" * 500 + "\u0e49" * 50
    page = everything(text)
    for frame in seen(str(page), [320, 1200], tmp_path):
        assert (frame["overflow"], frame["scripts"], frame["touched"]) == (0, 0, 0), frame


def test_no_script_runs_even_where_one_got_into_a_page(tmp_path: Path) -> None:
    """What the policy is for: the second wall."""
    page = str(everything("plain"))
    script = "<script>parent.touched=1</script>"
    inside = page.replace("<main>", f"<main>{script}")
    [frame] = seen(inside, [800], tmp_path)
    assert (frame["scripts"], frame["touched"]) == (1, 0)
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", inside)
    [frame] = seen(unguarded, [800], tmp_path)
    assert frame["touched"] == 1


def test_a_screenshot_of_a_page_is_made(tmp_path: Path) -> None:
    write(tmp_path / "page.html", everything("plain"))
    assert BROWSER is not None
    picture = tmp_path / "page.png"
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--window-size=800,600", f"--screenshot={picture}", (tmp_path / "page.html").as_uri()]
    subprocess.run(words, capture_output=True, check=True, timeout=240)
    header = picture.read_bytes()[:24]
    assert (header[:8], header[16:20], header[20:24]) == (
        b"\x89PNG\r\n\x1a\n",
        (800).to_bytes(4),
        (600).to_bytes(4),
    )
