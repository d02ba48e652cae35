"""PluginContract: a suite that the author of a plugin runs on it. Needs pytest, and no plugin of it."""

from grctl.testing.plugin_contract.composing import ComposingCases
from grctl.testing.plugin_contract.notifying import NotifyingCases
from grctl.testing.plugin_contract.passing import PassingCases
from grctl.testing.plugin_contract.stopping import StoppingCases

__all__ = ["PluginContract"]


class PluginContract(ComposingCases, PassingCases, StoppingCases, NotifyingCases):
    """What others expect of a plugin that stands around their calls, as a suite of tests.

    Subclass it in a test module, say how to make the plugin, and let pytest find it. No plugin of pytest is needed:

        from grctl.testing import PluginContract

        class TestMyPlugin(PluginContract):
            def make_plugin(self):
                return MyPlugin()

    A plugin that does more than to look says so: :attr:`answers` names the operations that it may answer or refuse by
    itself, :attr:`changes` those whose values, results or errors it changes. Each case has an event loop and a plugin
    of its own. Calls go to a RecordingTransport, and once to the embedded engine: no server is needed.
    """
