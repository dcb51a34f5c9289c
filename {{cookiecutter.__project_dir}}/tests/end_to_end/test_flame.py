"""The flame graph in a real browser: it zooms, searches, inverts and changes its type, offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from threadkit.profiling import flame
from threadkit.profiling.profile import Frame, Profile, ValueType

from ..servers.browser import Browser


def example() -> Profile:
    """``serve`` calls ``report``, which computes itself, and calls ``part`` from two lines."""
    types = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))
    profile = Profile(types, default_type="cpu", comments=["engine: py-spy"])
    serve, part = Frame("serve", "/srv/kit.py", 5), Frame("part", "/srv/parts.py", 7)
    for line, value in ((30, 3), (31, 1)):
        profile.add((part, Frame("report", "/srv/own.py", line), serve), (value, value * 10**9))
    profile.add((Frame("report", "/srv/own.py", 32), serve), (4, 1 * 10**9))
    profile.add((serve,), (2, 5 * 10**9))
    return profile


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all of these tests."""
    with Browser.start(tmp_path_factory.mktemp("flame") / "browser") as browser:
        browser.show(width=1000, height=600, dark=False)
        yield browser


@pytest.fixture(autouse=True)
def page(browser: Browser, tmp_path: Path) -> None:
    """The example's page, freshly opened."""
    (tmp_path / "graph.html").write_text(flame.page(example(), "profile").body)
    browser.open(f"file://{tmp_path}/graph.html")


def bars(browser: Browser, selector: str = "button") -> list[list[Any]]:
    """Name, row and width in percent of each bar, from the top."""
    found: list[list[Any]] = browser.run(
        """const graph = document.querySelector("#graph"), all = graph.clientWidth;
        return [...graph.querySelectorAll(arguments[0])].map((b) =>
          [b.textContent, b.offsetTop / 19, Math.round(100 * b.offsetWidth / all)])""",
        selector,
    )
    return sorted(found, key=lambda bar: bar[1])


def about(browser: Browser) -> str:
    return str(browser.run("return document.querySelector('#about').textContent"))


def test_a_function_is_one_bar_whatever_its_lines(browser: Browser) -> None:
    assert bars(browser) == [["all", 0, 100], ["serve", 1, 100], ["report", 2, 50], ["part", 3, 40]]
    assert about(browser) == "10.00 s of 10.00 s"
    title = browser.run("return document.querySelectorAll('#graph button')[2].title")
    assert title.splitlines() == [
        *("report", "/srv/own.py", "5.00 s, 50.0 %"),
        *("line 30: 3.00 s", "line 31: 1.00 s", "line 32: 1.00 s"),
    ]


def test_a_click_zooms_and_escape_comes_back(browser: Browser) -> None:
    browser.click("#graph button:nth-child(3)")
    assert bars(browser, "button:not(.out)") == [["report", 2, 100], ["part", 3, 80]]
    assert [name for name, _, _ in bars(browser, ".out")] == ["all", "serve"]
    assert about(browser) == "5.00 s of 10.00 s"
    browser.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert len(bars(browser)) == 4
    assert about(browser) == "10.00 s of 10.00 s"


def test_a_search_marks_and_counts_names_and_files(browser: Browser) -> None:
    for text, hits, share in (("PART", ["part"], "40.0"), ("own.py", ["report"], "50.0")):
        browser.run(
            """const field = document.querySelector("#search");
            field.value = arguments[0]; field.dispatchEvent(new Event("input"))""",
            text,
        )
        assert [name for name, _, _ in bars(browser, ".hit")] == hits
        assert about(browser) == f"10.00 s of 10.00 s; found {share} %"


def test_inverted_it_begins_with_what_computes(browser: Browser) -> None:
    browser.click("#invert")
    top = {name: width for name, row, width in bars(browser) if row == 1}
    assert top == {"part": 40, "report": 10, "serve": 50}
    assert browser.run("return document.querySelector('#invert').ariaPressed") == "true"


def test_another_type_has_other_widths(browser: Browser) -> None:
    browser.run(
        """const choice = document.querySelector("#type");
        choice.value = "0"; choice.dispatchEvent(new Event("change"))"""
    )
    assert about(browser) == "10 of 10"
    assert ["report", 2, 80] in bars(browser)


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Browser) -> None:
    asked = [url for url in browser.requested() if not url.startswith("file://")]
    assert asked == []
    assert browser.console() == []
