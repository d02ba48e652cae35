"""What all tests share: hypothesis tries the same examples on each run, and nothing is measured in wall time."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import settings

# A shell starts what is in its background deaf to Ctrl-C, and the commands that tests send it to would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=100)
settings.register_profile("long", deadline=None, database=None, max_examples=3_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--uvloop", action="store_true", help="run asynchronous tests on uvloop")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--uvloop"):
        config.pluginmanager.register(OnUvloop(), "grctl-on-uvloop")


class OnUvloop:
    def pytest_asyncio_loop_factories(self, config: pytest.Config, item: pytest.Item) -> dict[str, object]:
        import uvloop

        return {"uvloop": uvloop.new_event_loop}


def pytest_collection_finish() -> None:
    """Take what the collection made, some million objects, out of the garbage collector's sight.

    Hundreds of tests collect garbage to see that nothing is left behind; each would walk through all of it.
    """
    gc.collect()
    gc.freeze()
