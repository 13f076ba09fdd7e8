"""The page in a real browser: by hand only, for a browser takes longer to install than CI has.

    apt-get install chromium
    PYCOLO_BROWSER=1 make test ARGS="tests/e2e/test_page_in_browser.py"

`PYCOLO_PAGE=URL` looks at the page of a running node as well, and `PYCOLO_SCREENSHOTS=DIRECTORY` keeps what was seen.
"""

import asyncio
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycolo.metrics.server import MetricsServer
from pycolo.transport.linksetup import Address
from support.browser import browser
from support.nodes import PATIENCE_S
from support.pagestatus import busy, hostile, just_started
from support.statuses import vm_status

SCREENSHOTS = os.environ.get("PYCOLO_SCREENSHOTS")
RUNNING = os.environ.get("PYCOLO_PAGE")
IS_SHOWN = "document.getElementById('verdict').textContent !== ''"
LOOKS = {"wide": (1100, False), "wide-dark": (1100, True), "narrow": (400, False), "narrow-dark": (400, True)}


@contextmanager
def served(shown):
    """The page of a node that answers `shown()`, from a loop in another thread; its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def status():
        return vm_status()

    async def answer():
        return shown()

    server = MetricsServer(Address("127.0.0.1", 0), status, answer)

    def carry_out(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)

    carry_out(server.start())
    try:
        yield f"http://{server.address}/"
    finally:
        carry_out(server.close())
        carry_out(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def contrast(page, selector):
    """WCAG 2's ratio between an element's colour and that of the panel behind it."""
    return page.value(f"""(() => {{
        const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
        const one = document.querySelector({selector!r});
        const [a, b] = [light(getComputedStyle(one).color), light(getComputedStyle(one.closest("section, header, body"))
            .backgroundColor)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }})()""")


if os.environ.get("PYCOLO_BROWSER") is not None:

    @pytest.fixture(scope="module")
    def page(tmp_path_factory):
        with browser(tmp_path_factory.mktemp("profile")) as made:
            yield made

    @pytest.mark.parametrize("look", LOOKS)
    def test_it_fits_and_can_be_read(page, look):
        width, is_dark = LOOKS[look]
        with served(busy) as url:
            page.open(url, width=width, is_dark=is_dark)
            page.until(IS_SHOWN, "the page to be filled")
            assert page.value("document.documentElement.scrollWidth") <= width
            for selector in ("#verdict", "#text", ".soft", ".letters", "button"):
                assert contrast(page, selector) >= 4.5, selector
            assert page.value("document.querySelectorAll('#timeline rect').length") == 60
            assert page.value("document.querySelectorAll('#costs li').length") == 2
            assert "76 % of the checkpoints" in page.value("document.getElementById('costs').textContent")
            assert page.problems == []

    @pytest.mark.parametrize("look", LOOKS)
    @pytest.mark.parametrize("count", [1, 2, 13, 19, 20, 33, 64])
    def test_no_time_at_the_axis_hides_another_one(page, look, count):
        def shown():
            data = busy()
            return {**data, "checkpoints": (2 * data["checkpoints"])[:count]}

        width, is_dark = LOOKS[look]
        with served(shown) as url:
            page.open(url, width=width, is_dark=is_dark)
            page.until(IS_SHOWN, "the page to be filled")
            edges = page.value("""[...document.querySelectorAll('#timeline .axis span')]
                .map((mark) => mark.getBoundingClientRect()).flatMap((box) => [box.left, box.right])""")
            assert edges
            assert edges == sorted(edges)
            assert 0 <= edges[0] < edges[-1] <= width

    def test_a_node_that_was_just_started_has_a_page(page):
        with served(just_started) as url:
            page.open(url, width=400)
            page.until(IS_SHOWN, "the page to be filled")
            page.until("document.getElementById('updated').textContent !== ''", "all of it")
            for part in ("checkpoints", "costs", "holds", "divergences", "takeovers"):
                assert page.value(f"document.getElementById({part!r}).textContent") != "", part
            assert "undefined" not in page.value("document.body.innerText")
            assert "null" not in page.value("document.body.innerText")
            assert page.problems == []

    def test_it_follows_the_node_and_says_when_it_cannot(page):
        epochs, is_away = iter(range(100, 10_000)), threading.Event()

        def shown():
            assert not is_away.is_set(), "away"
            return busy(epoch=next(epochs))

        with served(shown) as url:
            page.open(url)
            page.until(IS_SHOWN, "the page to be filled")
            facts = page.value("document.getElementById('facts').textContent")
            page.until(f"document.getElementById('facts').textContent !== {facts!r}", "the page to follow")
            assert not page.value("document.body.classList.contains('stale')")
            is_away.set()
            page.until("document.body.classList.contains('stale')", "the page to say that it is stale")
            assert "Stale: the node has not answered for" in page.value("document.getElementById('stale').textContent")
            is_away.clear()
            page.until("!document.body.classList.contains('stale')", "the page to follow again")
        page.until("document.body.classList.contains('stale')", "a server that is gone to be noticed")
        page.problems.clear()  # a server that is gone, and one that answers 503, are errors to the console

    def test_what_a_guest_writes_is_text(page):
        with served(hostile) as url:
            page.open(url)
            page.until(IS_SHOWN, "the page to be filled")
            page.until("document.getElementById('updated').textContent !== ''", "all of it")
            assert "owned" not in page.value("document.title").partition("<img")[0]
            assert page.value("document.title") != "owned"
            assert page.value("document.images.length") == 0
            assert page.value("document.scripts.length") == 1
            assert page.value("document.querySelectorAll('main *').length") < 1000
            assert "<script>" in page.value("document.getElementById('divergences').textContent")
            assert page.problems == []

    def test_the_policy_would_stop_what_the_script_did_not(page):
        with served(busy) as url:
            page.open(url)
            page.until(IS_SHOWN, "the page to be filled")
            page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
            page.value(
                "document.body.append(Object.assign(document.createElement('script'), {text: 'window.owned=1'}))"
            )
            page.until("document.images.length === 1", "the attempt")
            assert page.value("window.owned") is None
        page.problems.clear()

    if RUNNING is not None:

        @pytest.mark.parametrize("look", LOOKS)
        def test_the_page_of_a_running_node(page, look):
            width, is_dark = LOOKS[look]
            page.open(RUNNING, width=width, height=1500, is_dark=is_dark)
            page.until(IS_SHOWN, "the page to be filled")
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.problems == []
            if SCREENSHOTS is not None:
                page.screenshot(Path(SCREENSHOTS) / f"page-{look}.png")
