"""examples/django_orders: its own tests, and the whole of it under gunicorn that forks what it has loaded."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys

import httpx2
import pytest
from serving import ROOT, Service

from grctl.testing import DevServer

MANAGE = str(ROOT / "examples" / "django_orders" / "manage.py")
ORDERS = 20
SET_UP = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_superuser("mia", password="tea")
"""


def manage(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", MANAGE, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_its_own_tests_pass():
    printed = manage("test", "examples.django_orders.orders.tests")
    assert re.search(r"Ran [1-9]\d* tests", printed), printed


@pytest.fixture
async def server():
    from examples.django_orders.workflows import workflows

    async with DevServer(workflows) as server:
        yield server


@pytest.fixture
async def shop(server, tmp_path):
    environment = {"GRCTL_NATS_SERVERS": server.url, "ORDERS_DATABASE": str(tmp_path / "db")}
    manage("shell", "--no-imports", "-c", SET_UP, **environment)
    options = ["--preload", "--workers", "2", "--threads", "4", "--bind", "127.0.0.1:{port}", "--no-control-socket"]
    command = ["-m", "gunicorn", *options, "examples.django_orders.wsgi"]
    ready = r"Listening at: http://127\.0\.0\.1:(\d+)"
    async with Service(command, ready=ready, log=tmp_path / "log", environment=environment) as shop:
        yield shop


async def post(browser, path, data):
    """Send a form as a browser does: with the token of the page that it is on."""
    page = await browser.get(path)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    return await browser.post(path, data=data | {"csrfmiddlewaretoken": token}, follow_redirects=True)


async def until_shown(browser, path, text):
    async with asyncio.timeout(60):
        while text not in (await browser.get(path)).text:
            await asyncio.sleep(0.05)


async def test_orders_are_taken_by_forked_workers_and_approved_in_the_admin(server, shop):
    async with httpx2.AsyncClient(base_url=shop.url, timeout=30) as browser:
        await browser.get("/")  # one cookie for all that follow
        answers = await asyncio.gather(*(post(browser, "/", {"item": "tea"}) for _ in range(ORDERS)))
        assert {answer.status_code for answer in answers} == {200}
        assert all("waits for approval" in answer.text for answer in answers), answers[0].text
        paths = {answer.url.path for answer in answers}
        assert len(paths) == ORDERS
        assert (await browser.get("/health/")).json() == {"status": "ok"}

        await post(browser, "/admin/login/", {"username": "mia", "password": "tea", "next": "/admin/"})
        selected = [path.split("/")[2] for path in paths]
        said = await post(browser, "/admin/orders/order/", {"action": "approve", "_selected_action": selected})
        assert f"Approved {ORDERS} orders." in said.text
        for path in paths:
            await until_shown(browser, path, "tea shipped, approved by mia")
    assert len(set(re.findall(r"Booting worker with pid: (\d+)", shop.log))) == 2
    assert await shop.stop() == 0
    assert "Traceback" not in shop.log
    assert "Warning" not in shop.log
