"""The page's modules of JavaScript, called in a real headless Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live.test_page_browser import tab, web
from tests.support.browser import MISSING, Browser
from tests.support.page import Page

__all__ = ["tab", "web"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def test_terminal_text(web: Page, tab: Browser) -> None:
    """Attributes of terminals are kept; other sequences go; what cannot be seen is made visible."""
    tab.open(web.url)
    plain: dict[str, Any] = {"flags": "", "fore": "", "back": ""}
    table: list[tuple[str, list[list[Any]]]] = [
        ("plain", [["plain", plain]]),
        ("\x1b[1;31mred\x1b[0m!", [["red", {"flags": "b", "fore": 1, "back": ""}], ["!", plain]]),
        ("\x1b[7;94;42mx", [["x", {"flags": "r", "fore": 12, "back": 2}]]),
        ("\x1b[38;5;208mx", [["x", {"flags": "", "fore": "rgb(255,135,0)", "back": ""}]]),
        ("\x1b[48;2;1;2;300mx", [["x", {"flags": "", "fore": "", "back": "rgb(1,2,255)"}]]),
        ("\x1b[38;5mx", [["x", {"flags": "", "fore": 0, "back": ""}]]),
        ("a\x1b[2K\x1b[10;3Hb\x1b]0;title\x07c\x1bPq\x1b\\d\x1b(Be", [[letter, plain] for letter in "abcde"]),
        ("\x1b[38:5:9mx", [["x", {"flags": "", "fore": 9, "back": ""}]]),
        ("\x1b[38:2:1:2:3;1mx", [["x", {"flags": "b", "fore": "rgb(1,2,3)", "back": ""}]]),
        ("\x1b[48:2::1:2:3mx", [["x", {"flags": "", "fore": "", "back": "rgb(1,2,3)"}]]),
        ("\x1b[4:3mx\x1b[4:0my", [["x", {"flags": "u", "fore": "", "back": ""}], ["y", plain]]),
        ("\x1b[58;5;1;3mx", [["x", {"flags": "i", "fore": "", "back": ""}]]),
        ("\x1b[58:2::1:3:4;58;2;1;3;4mx", [["x", plain]]),
        ("\x1b[>4;2m\x1b[?4mx", [["x", plain]]),
        ("10%\r99%\r", [["99%", plain]]),
        ("\x1b[31m10%\r99%", [["99%", {"flags": "", "fore": 1, "back": ""}]]),
        ("\x00\x7f\x9b\u202e", [["\u2400\u2421\\u009b\\u202e", plain]]),
        ("<b>", [["<b>", plain]]),
        ("", []),
    ]
    for text, runs in table:
        assert tab.module("/static/ansi.js", "m.runsOf(given[0], m.PLAIN)[0]", text) == runs, text


def test_hostile_text(web: Page, tab: Browser) -> None:
    """Reading a line takes a time in proportion to its length, whatever it holds: the page does not freeze."""
    tab.open(web.url)
    script = """(() => {
        const began = performance.now();
        m.runsOf(given[0] + given[1].repeat(100000) + "\u00e4", m.PLAIN);
        return performance.now() - began;
    })()"""
    for begin, again in (
        ("\x1b[", "!"),
        ("\x1b[", "1"),
        ("\x1b[", " "),
        ("\x1b]", "\x1b]"),
        ("", "\r"),
        ("", "\x1b[1m"),
    ):
        assert tab.module("/static/ansi.js", script, begin, again) < 1500, (begin, again)


@pytest.mark.parametrize("language", ["en-US", "ko-KR", "fa-IR", "ja-JP", "fi-FI"])
def test_times(web: Page, tab: Browser, language: str) -> None:
    """Times are the same whatever the browser's language; the time zone is the browser's."""
    tab.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": language})
    tab.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Vienna"})
    tab.open(web.url)
    script = "(() => { const at = Date.UTC(2026, 0, 31, 23, 5, 9) / 1000; return [m.clock(at), m.wholeTime(at)]; })()"
    short, whole = tab.module("/static/common.js", script)
    assert short == "2026-02-01 00:05"
    assert whole.startswith("2026-02-01 00:05:09 ")


def test_many_samples(web: Page, tab: Browser) -> None:
    """A page that is open for days holds no more samples than a plot can show, the first one among them."""
    tab.open(web.url)
    script = """(() => {
        const samples = { time: [], cpu: [] };
        for (let at = 1; at <= 20000; at++) m.addSamples(samples, { time: [at], cpu: [at] });
        return [samples.time.length <= 1200, samples.time[0], samples.time[samples.time.length - 1] > 19980,
            samples.time.every((at, i) => at === samples.cpu[i] && (!i || at > samples.time[i - 1]))];
    })()"""
    assert tab.module("/static/plots.js", script) == [True, 1, True, True]


def test_line_without_an_end(web: Page, tab: Browser) -> None:
    """No character of a long line is lost where it is cut."""
    tab.open(web.url)
    script = """(() => {
        const lines = new m.Lines();
        lines.clear(0);
        lines.append(new TextEncoder().encode("x" + "\u00e4\u20ac".repeat(60000)));
        return [lines.text(0, 1e6).replaceAll("\\n", "") === "x" + "\u00e4\u20ac".repeat(60000), lines.size];
    })()"""
    assert tab.module("/static/lines.js", script) == [True, 1 + 5 * 60000]


def test_samples_that_come_again(web: Page, tab: Browser) -> None:
    """A connection that is made again brings samples that are known: each time is in the plots once, in order."""
    tab.open(web.url)
    script = """(() => {
        const samples = { time: [], cpu: [] };
        const more = (...times) => m.addSamples(samples, { time: times, cpu: times.map((at) => at / 10) });
        more(10, 20);
        more(30);
        const seen = [structuredClone(samples)];
        more(10, 30, 40);
        return [...seen, samples];
    })()"""
    assert tab.module("/static/plots.js", script) == [
        {"time": [10, 20, 30], "cpu": [1, 2, 3]},
        {"time": [10, 30, 40], "cpu": [1, 3, 4]},
    ]


def test_window(web: Page, tab: Browser) -> None:
    """A window of output: pieces that cut characters and lines, what comes before it, wrapping, and its size."""
    tab.open(web.url)
    script = """(() => {
        const bytes = (text) => new TextEncoder().encode(text);
        const seen = {};
        const lines = new m.Lines();
        const data = bytes("zero\\nä€😀\\n\\tx\\nhalf");
        lines.clear(100);
        for (const byte of data) lines.append(new Uint8Array([byte]));
        seen.rows = lines.text(0, 99).split("\\n");
        seen.offsets = [lines.start, lines.end - data.length, lines.partial];
        seen.before = [lines.prepend(bytes("cut\\nbefore\\n"), 89), lines.start, lines.text(0, 1)];
        lines.layout(5);
        seen.wrapped = lines.text(0, 3).split("\\n");
        lines.layout(100);
        lines.clear(0);
        for (let i = 0; i < 40; i++) { lines.append(bytes("0123456789abcde\\n".repeat(4096))); lines.shrink(false); }
        seen.kept = [lines.size <= m.MOST_BYTES, lines.end, lines.start % 16, lines.rows.length * 16 - lines.size];
        const end = lines.end;
        lines.prepend(bytes("0123456789abcde\\n".repeat(65536)), lines.start - 2 ** 20);
        lines.shrink(true);
        seen.cut = [lines.size <= m.MOST_BYTES, lines.end < end, (lines.end - lines.start) % 16];
        return seen;
    })()"""
    assert tab.module("/static/lines.js", script) == {
        "rows": ["zero", "ä€😀", "        x", "half"],
        "offsets": [100, 100, True],
        "before": [1, 93, "before"],
        "wrapped": ["befor", "e", "zero"],
        "kept": [True, 40 * 65536, 0, 0],
        "cut": [True, True, 0],
    }
