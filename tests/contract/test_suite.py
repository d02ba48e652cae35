"""The suite itself."""

from __future__ import annotations

from .hosts import LIVE_URL


def test_cases_are_repeated_on_a_live_server_alone(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("grctl-repeater") == bool(LIVE_URL)
