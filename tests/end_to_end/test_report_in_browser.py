"""A report page in a real browser: it opens from disk, draws, scrolls and sorts, and the words of files do nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from relapet.report.page import PAGE
from relapet.report.page.synthesis import write_synthesis_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"),
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
]
HOSTILE = (
    "</script><script>document.title = 'broken in'</script><img src=x onerror=\"document.title='broken in'\">"
)


_POOR_CONTRASTS = """() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(script):not(option):not(canvas)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) poor.push(`${element.tagName} ${contrast.toFixed(1)} ${element.textContent.slice(0, 30)}`);
  }
  return poor;
}"""
"""Elements with words of their own whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3)."""


@dataclass
class Heard:
    """What a page said and asked for."""

    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.asked.append(request.url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(synthetic: Path, toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two participants, whose model and one region have hostile names."""
    tree = Path(shutil.copytree(synthetic, tmp_path_factory.mktemp("report") / "maps"))
    path = tree / "dataset_description.json"
    description = json.loads(path.read_text())
    description["RelapetModel"]["Name"] = HOSTILE
    description["DatasetLinks"] = {"source": str(toy_source)}
    path.write_text(json.dumps(description))
    for table in tree.rglob("*_desc-synth_suvr.tsv"):
        table.write_text(table.read_text().replace("Left-Thalamus-Proper", HOSTILE.replace('"', "'")))
    return write_synthesis_page(tree, tree / PAGE)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def page(browser: Browser, report: Path, heard: Heard) -> Iterator[Page]:
    """The report, opened from disk, with its viewer drawn; afterwards: nothing went wrong or was asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.on("console", heard.console)
    opened.on("pageerror", lambda error: heard.errors.append(str(error)))
    opened.on("request", heard.request)
    opened.goto(report.as_uri())
    opened.wait_for_selector(".viewer[data-ready]", timeout=60_000)
    yield opened
    context.close()
    assert heard.errors == []
    assert heard.asked == [report.as_uri()]


def drawn(page: Page) -> bytes:
    """The viewer's picture once it has settled."""
    page.wait_for_timeout(250)
    return page.locator('[data-part="canvas"]').screenshot()


def test_the_viewer_draws_scrolls_and_blends(page: Page) -> None:
    first = drawn(page)
    assert len(first) > 20_000  # no empty rectangle
    page.locator('[data-part="z"]').focus()
    for _ in range(20):
        page.keyboard.press("ArrowUp")
    by_key = drawn(page)
    assert by_key != first
    assert "z 24 mm" in str(page.locator('[data-part="said"]').text_content())
    page.locator('[data-part="canvas"]').focus()
    for key in ("PageUp", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert "x 2, y −19, z 25 mm" in str(page.locator('[data-part="said"]').text_content())
    by_arrows = drawn(page)
    assert by_arrows != by_key
    page.locator('[data-part="canvas"]').hover(position={"x": 150, "y": 200})
    page.mouse.wheel(0, 300)
    by_wheel = drawn(page)
    assert by_wheel != by_arrows
    page.locator('[data-part="overlay"]').uncheck()
    without = drawn(page)
    assert without != by_wheel
    page.locator('[data-part="overlay"]').check()
    assert drawn(page) != without
    page.locator('[data-part="opacity"]').fill("20")
    assert drawn(page) not in (by_wheel, without)
    page.locator('[data-part="planes"]').select_option("coronal")
    assert drawn(page) != by_wheel


def test_the_viewer_shows_each_scan_and_map(page: Page) -> None:
    pictures = set()
    for scan in (0, 1):
        page.locator('[data-part="scan"]').select_option(index=scan)
        for layer in ("Synthetic", "Measured"):
            page.locator('[data-part="layer"]').select_option(label=layer)
            page.wait_for_selector(f'.viewer[data-ready$=", {layer}"]')
            pictures.add(drawn(page))
            assert ", SUVr " in str(page.locator('[data-part="said"]').text_content())
    assert len(pictures) == 4


def test_tables_sort_by_click_and_by_key(page: Page) -> None:
    page.locator("details summary").first.click()
    table = page.locator("details table").first
    heading = table.locator("thead th").nth(1)

    def numbers() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(2)").all_text_contents()
        return [float(cell.replace("−", "-")) for cell in cells]

    before = numbers()
    assert before != sorted(before)
    heading.locator("button").click()
    assert numbers() == sorted(before)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert numbers() == sorted(before, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    table.locator("thead th").first.locator("button").press("Space")
    names = table.locator("tbody tr th").all_text_contents()
    assert names[:2] == [HOSTILE.replace('"', "'"), "4th-Ventricle"]
    assert heading.get_attribute("aria-sort") is None


def test_hostile_words_stay_words(page: Page) -> None:
    assert page.locator("h1").text_content() == f"Synthetic PET by the model {HOSTILE}"
    assert "broken in" not in page.title().partition("<script>")[0]
    assert page.title() == f"Synthetic PET by the model {HOSTILE}"
    assert page.locator("img[src='x']").count() == 0
    page.locator("details summary").first.click()
    assert page.locator("details table").first.locator("tbody th", has_text="broken in").count() == 1


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("details summary").first.click()
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    narrow = page.evaluate(
        "[...document.querySelectorAll('.columns img')].every((i) => i.complete && i.naturalWidth > 0)"
    )
    assert narrow is True


def test_words_stand_out_from_their_ground(page: Page) -> None:
    assert page.evaluate(_POOR_CONTRASTS) == []
