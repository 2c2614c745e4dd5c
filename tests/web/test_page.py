"""The page as people use it: Chromium, the real command, the real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright  # noqa: E402
from videos import write_video  # noqa: E402

from .conftest import SAMPLES  # noqa: E402
from .served import Served  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.triton]

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000  # machines under load
expect.set_options(timeout=PATIENCE_MS)
PAGE_BYTES = 300_000
SCREENSHOTS = os.environ.get("REELKIND_SCREENSHOTS")  # a folder that gets what the page looks like


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, new to the browser; nothing it did may have been an error or have left this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    found = context.new_page()
    complaints: list[str] = []
    requested: list[Request] = []
    found.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: requested.append(request))
    found.goto(served.url)
    expect(found.locator("#samples button")).to_have_count(len(list(SAMPLES.glob("*.mp4"))))
    yield found
    own = [text for text in complaints if "415" not in text]  # Chromium logs every refusal
    context.close()
    assert own == []
    assert [request.url for request in requested if not request.url.startswith(served.url)] == []


def drop(page: Page, path: Path, media_type: str = "video/mp4") -> None:
    """Let a file fall on the page."""
    page.evaluate(
        """async ([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
            document.getElementById('drop').dispatchEvent(
                new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        [list(path.read_bytes()), path.name, media_type],
    )


def label(page: Page) -> str | None:
    """What the page says the video is."""
    found = page.get_by_test_id("label")
    expect(found).to_be_visible()
    return found.get_attribute("data-label")


def shoot(page: Page, name: str) -> None:
    """Keep what the page looks like, if somebody wants to see it."""
    if SCREENSHOTS:
        page.wait_for_timeout(700)  # pictures and the player's first frame
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png")


def test_a_dropped_video_is_told_with_its_stages_frames_and_timeline(page: Page) -> None:
    states: list[str] = []
    page.expose_function("heard", lambda state: states.append(state))
    page.evaluate(
        """() => new MutationObserver(() => {
            const state = document.querySelector('[data-testid=state]')?.textContent;
            if (state) window.heard(state);
        }).observe(document.getElementById('result'), {subtree: true, childList: true, characterData: true})"""
    )
    drop(page, SAMPLES / "natural_handheld.mp4")
    assert label(page) == "natural"
    assert any("waiting" in state for state in states), states
    assert any("decoding" in state or "server" in state for state in states), states
    expect(page.get_by_test_id("timings")).to_contain_text("in all")
    expect(page.get_by_role("button", name="Go to")).to_have_count(4)
    expect(page.get_by_text("It is no cause")).to_be_visible()
    assert page.locator("#answer img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 224


def test_a_click_on_the_timeline_seeks_the_player(page: Page) -> None:
    page.get_by_role("button", name="animation cartoon").click()
    assert label(page) == "animation"
    video = page.locator("video")
    video.evaluate("video => video.readyState > 0 || new Promise(done => video.onloadedmetadata = done)")
    length = video.evaluate("video => video.duration")
    box = page.get_by_role("group", name="Segments of the video").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    assert video.evaluate("video => video.currentTime") == pytest.approx(0.75 * length, abs=0.05 * length)
    page.get_by_test_id("attention").click(position={"x": 0.25 * box["width"], "y": 20})
    assert video.evaluate("video => video.currentTime") == pytest.approx(0.25 * length, abs=0.05 * length)
    segment = page.get_by_role("group", name="Segments of the video").get_by_role("button").first
    segment.focus()
    page.keyboard.press("Enter")
    assert video.evaluate("video => video.currentTime") == 0
    shoot(page, "desktop_light")


def test_another_member_and_another_look_answer_from_kept_features(page: Page, served: Served) -> None:
    models = served.get("api/models")["models"]
    page.get_by_role("button", name="flat slides").click()
    assert label(page) == "flat"
    page.get_by_label("Look more than once").select_option("fast")
    page.get_by_role("button", name="Ask again with the options chosen").click()
    expect(page.get_by_test_id("kept")).to_be_visible()
    expect(page.locator("#answer")).to_contain_text("looking again: fast")
    if len(models) > 1:
        page.get_by_label("Who answers").select_option(models[1]["name"])
        page.get_by_role("button", name="Ask again with the options chosen").click()
        expect(page.locator("#answer h2")).to_be_visible()
        expect(page.locator("#answer")).to_contain_text(f"Answered by {models[1]['name']}")
        page.get_by_role("button", name="Compare all members").click()
        rows = page.get_by_test_id("others").locator("tbody tr")
        expect(rows.filter(has_text="all members")).to_contain_text("%")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "flat_slides.mp4" in download.value.suggested_filename
    page.reload()  # history is the server's
    expect(page.locator("#history")).to_contain_text("flat_slides.mp4")
    expect(page.locator("#history")).to_contain_text("from kept features")


def test_a_job_is_cancelled(page: Page, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", 3000, fps=1)  # 50 minutes, whose timeline takes a while
    page.locator("#files").set_input_files(str(long))
    page.locator("#history").get_by_role("button", name="Cancel long.mp4").click()
    expect(page.locator("#history [data-status=cancelled]")).to_contain_text("cancelled")


def test_garbage_is_refused_with_a_way_out(page: Page, tmp_path: Path) -> None:
    garbage = tmp_path / "holiday.mp4"
    garbage.write_bytes(b"%PDF-1.7 nothing to see")
    drop(page, garbage)
    expect(page.get_by_role("alert")).to_contain_text("“holiday.mp4” is no video: it looks like a PDF document")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((SAMPLES / "flat_slides.mp4").read_bytes()[:3000])
    drop(page, broken)
    expect(page.get_by_test_id("error")).to_contain_text("“broken.mp4” cannot be classified")
    expect(page.get_by_test_id("error")).to_contain_text("try again")


def test_the_whole_page_is_small(page: Page) -> None:
    page.reload()
    expect(page.locator("#samples button").first).to_be_visible()
    sizes = page.evaluate(
        "() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map(entry => [entry.name, entry.decodedBodySize])"
    )
    assert len(sizes) > 8
    assert sum(size for _, size in sizes) < PAGE_BYTES, sizes


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width"), [("desktop", 1280), ("phone", 390)])
def test_nobody_is_shut_out(page: Page, theme: str, device: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.set_viewport_size({"width": width, "height": 1000 if device == "desktop" else 844})
    if theme == "dark":
        page.get_by_role("button", name="Dark").click()
    check_accessible(axe, page)
    page.get_by_role("button", name="gaming megaglest").click()
    assert label(page) == "gaming"
    check_accessible(axe, page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if device == "phone":
        page.locator("#result").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('result').scrollIntoView()")
    shoot(page, f"{device}_{theme}_gaming")


def check_accessible(axe: object, page: Page) -> None:
    """axe-core's rules, loaded past the page's policy as an extension would."""
    found = axe.Axe().run(page)  # type: ignore[attr-defined]
    serious = [
        (rule["id"], [node["html"] for node in rule["nodes"]])
        for rule in found.response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    page.get_by_role("button", name="Choose files").focus()
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"flat slides", "member", "tta", "timeline"} <= seen
    page.get_by_role("button", name="flat slides").focus()
    page.keyboard.press("Enter")
    assert label(page) == "flat"
