"""The page of examples/fastapi_orders in a real browser: it shows its orders live, through a restart of the service.

Run it with GRCTL_BROWSER_TESTS=1 and GRCTL_TEST_ORDERS=200, as .ci/run does where Chromium is there or can be
installed. With GRCTL_SCREENSHOTS=FOLDER it leaves pictures of the page there.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest
from chromium import Chromium, executable
from serving import wait_until
from test_fastapi_service import ORDERS, browser, buy, server, service

__all__ = ["browser", "server", "service"]

if not os.environ.get("GRCTL_BROWSER_TESTS"):
    pytest.skip("takes a browser: set GRCTL_BROWSER_TESTS=1", allow_module_level=True)
if executable() is None:
    pytest.skip("chromium is not installed", allow_module_level=True)


async def test_the_page_shows_orders_live_through_a_restart(server, service, browser, tmp_path):
    pictures = Path(os.environ.get("GRCTL_SCREENSHOTS", tmp_path))
    done = Counter()
    async with asyncio.timeout(170), Chromium(service.url) as page:
        await page.wait_for("document.getElementById('link')?.textContent === 'live'")

        # A person orders, and decides, on the page itself.
        await page.evaluate("document.querySelector('form button').click()")
        await page.wait_for("document.querySelector('tr[data-state=waiting] .do button') !== null")
        await page.evaluate("document.querySelector('tr[data-state=waiting] .do button').click()")
        await page.wait_for("document.getElementById('shipped').textContent === '1'")
        for item in ("tea", "coffee"):
            await browser.post("/orders", json={"order_id": f"for-{item}", "item": item, "quantity": 3})
        await browser.post("/orders", json={"order_id": "for-nobody", "item": "unicorns"})
        await page.wait_for("document.getElementById('waiting').textContent === '2'")
        await page.wait_for("document.getElementById('other').textContent === '1'")

        customers = [asyncio.create_task(buy(browser, number, done)) for number in range(ORDERS)]
        await wait_until(lambda: done["shipped"] >= ORDERS // 10, "some have been shipped")
        await page.screenshot(pictures / "in-the-middle.png")
        await service.stop()
        await page.wait_for("document.getElementById('link').className === ''")
        await service.start()
        await asyncio.gather(*customers)
        await page.wait_for(f"document.getElementById('shipped').textContent === '{ORDERS + 1}'")
        await page.wait_for("document.getElementById('link').textContent === 'live'")
        assert await page.evaluate("document.querySelectorAll('tbody tr').length") == ORDERS + 4
        assert await page.evaluate("document.getElementById('waiting').textContent") == "2"
        await page.screenshot(pictures / "light.png")
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await page.call("Emulation.setEmulatedMedia", features=dark)
        await page.screenshot(pictures / "dark.png")
