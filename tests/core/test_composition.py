"""grctl_core.composition and grctl_core.plugins: what a client takes as plugins, in which order, what it refuses."""

from __future__ import annotations

import functools
import warnings
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pluggy
import pytest

from grctl_core import plugins as door
from grctl_core.client import WorkflowClient
from grctl_core.errors import InvalidInputError
from grctl_core.hooks import Plugin, hookimpl
from grctl_core.plugins import load_plugin

from .scripted import ScriptedConnection


def plugin(name: str = "audit", bases: tuple[type, ...] = (), **members: Any) -> Any:
    """An object of a class with these members."""
    return type("SomePlugin", bases, {"name": name, **members})()


async def around(self: Any, call: Any, proceed: Any) -> Any:
    return await proceed(call)


async def around_attempt(self: Any, attempt: Any, proceed: Any) -> Any:
    return await proceed(attempt)


def refused(*plugins: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        WorkflowClient(ScriptedConnection(), plugins=plugins)
    return str(caught.value)


def layers(*plugins: object) -> dict[str, tuple[str, ...]]:
    return dict(WorkflowClient(ScriptedConnection(), plugins=plugins).plugins.layers)


class TestOrder:
    def test_the_first_listed_is_outermost_and_generic_and_specific_hooks_share_one_order(self) -> None:
        one = plugin("one", grctl_start=around)
        two = plugin("two", grctl_operation=around)
        three = plugin("three", grctl_operation=around, grctl_start=around, grctl_attempt=around_attempt)
        found = layers(one, two, three)
        assert found["start"] == (
            "one.grctl_start",
            "two.grctl_operation",
            "three.grctl_operation",
            "three.grctl_start",
        )
        assert found["send"] == found["describe"] == ("two.grctl_operation", "three.grctl_operation")
        assert found["attempt"] == ("three.grctl_attempt",)

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_retry_has_its_slot_wherever_it_is_listed(self, position: int) -> None:
        listed = [plugin("one", grctl_start=around), plugin("two", grctl_start=around)]
        listed.insert(position, plugin("again", grctl_retry=around))
        found = layers(*listed)
        assert found["retry"] == ("again.grctl_retry",)
        assert found["start"] == ("one.grctl_start", "two.grctl_start")

    def test_a_plugin_may_say_what_has_to_stand_before_it(self) -> None:
        logging = plugin("logging", grctl_operation=around, listed_after=("tracing",))
        tracing = plugin("tracing", grctl_operation=around)
        with pytest.warns(UserWarning, match="'logging' is listed before 'tracing', and should stand after") as caught:
            layers(logging, tracing)
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layers(tracing, logging)
            layers(logging)

    def test_the_warning_shows_the_line_that_makes_the_client(self) -> None:
        logging = plugin("logging", grctl_operation=around, listed_after=("tracing",))
        with pytest.warns(UserWarning, match="logging") as caught:
            WorkflowClient(ScriptedConnection(), plugins=[logging, plugin("tracing", grctl_operation=around)])
        assert caught[0].filename == __file__

    def test_it_can_be_looked_at(self) -> None:
        audit = plugin("audit", grctl_start=around, grctl_run_ended=lambda self, run: None)
        found = WorkflowClient(ScriptedConnection(), plugins=[audit]).plugins
        assert list(found) == [audit] == [found[0]] == list(found[:1])
        assert found.names == ("audit",)
        assert str(found) == "start      audit.grctl_start\nrun_ended  audit.grctl_run_ended"
        assert repr(found) == "<PluginList audit>"
        without = WorkflowClient(ScriptedConnection()).plugins
        assert (len(without), str(without), dict(without.layers)) == (0, "no plugins", {})


class TestShapes:
    def test_what_counts_as_a_hook(self) -> None:
        """The marker changes nothing: with it, without it, or with the one of another project."""

        class Marked:
            name = "marked"

            @hookimpl
            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                return await proceed(call)

            @pluggy.HookimplMarker("other")
            async def grctl_send(self, call: Any, proceed: Any) -> Any:
                return await proceed(call)

            @staticmethod
            async def grctl_result(call: Any, proceed: Any) -> Any:
                return await proceed(call)

            @classmethod
            async def grctl_attempt(cls, attempt: Any, proceed: Any) -> Any:
                return await proceed(attempt)

        assert set(layers(Marked())) == {"start", "send", "result", "attempt"}

    def test_a_hook_may_be_inherited_or_set_on_the_object(self) -> None:
        class Mixin:
            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                return await proceed(call)

        class Mixed(Mixin, Plugin):
            name = "mixed"

        assert set(layers(Mixed())) == {"start"}
        bare = plugin("bare")
        bare.grctl_send = around.__get__(bare)
        assert set(layers(bare)) == {"send"}

    def test_the_base_class_adds_nothing_by_itself(self) -> None:
        assert set(layers(plugin(bases=(Plugin,), grctl_send=around))) == {"send"}
        assert "implements no hook" in refused(plugin(bases=(Plugin,)))

    def test_notifications_take_what_they_need(self) -> None:
        assert set(layers(plugin(grctl_run_ended=lambda self: None))) == {"run_ended"}
        three = plugin(grctl_run_ended=lambda self, run, outcome, waited: None)
        assert set(layers(three)) == {"run_ended"}

    def test_one_plugin_in_two_clients(self) -> None:
        shared = plugin(grctl_start=around)
        assert layers(shared) == layers(shared)


class TestRefused:
    def test_a_misspelt_hook(self) -> None:
        assert refused(plugin(grctl_strat=around)) == (
            "plugin 'audit': grctl_strat is no hook: did you mean grctl_start?"
        )
        assert "is no hook: there are grctl_attempt, " in refused(plugin(grctl_zzzzzz=around))

    @pytest.mark.parametrize(
        "signature",
        [
            "self, call",
            "self, proceed, call",
            "self, call, proced",
            "self, call, proceed, more=None",
            "self, call, *, proceed",
            "self, *args",
            "self, call, proceed, **more",
            "self, call, proceed, /",
            "call, proceed",
        ],
    )
    def test_wrong_arguments(self, signature: str) -> None:
        members: dict[str, Any] = {}
        exec(f"async def grctl_start({signature}): ...", members)
        message = refused(plugin(grctl_start=members["grctl_start"]))
        assert message.startswith("plugin 'audit': grctl_start takes (")
        assert message.endswith("a method for it has exactly the arguments (call, proceed)")

    def test_wrong_arguments_of_a_notification(self) -> None:
        message = refused(plugin(grctl_run_ended=lambda self, run, result: None))
        assert message.endswith("a method for it has no arguments but (run, outcome, waited, state)")

    def test_no_coroutine_function(self) -> None:
        def plain(self: Any, call: Any, proceed: Any) -> Any:
            return proceed(call)

        async def generator(self: Any, call: Any, proceed: Any) -> Any:
            yield await proceed(call)

        for function in (plain, generator):
            assert "must be a coroutine function: write 'async def grctl_start'" in refused(
                plugin(grctl_start=function)
            )

    def test_a_notification_that_is_one(self) -> None:
        async def told(self: Any, run: Any) -> None: ...

        assert "must be a plain function, as nobody awaits it" in refused(plugin(grctl_run_ended=told))

    def test_an_attribute_that_is_no_method(self) -> None:
        assert "grctl_start is no method but str" in refused(plugin(grctl_start="yes"))
        assert "grctl_start is no method but partial" in refused(plugin(grctl_start=functools.partial(around, None)))

    def test_a_class(self) -> None:
        assert refused(type(plugin(grctl_start=around))) == (
            "plugins takes instances, and SomePlugin is a class: pass SomePlugin()"
        )

    def test_no_name(self) -> None:
        for name in ("", " ", None, 7):
            assert "SomePlugin is no plugin, or lacks a name" in refused(plugin(name, grctl_start=around))  # type: ignore[arg-type]
        assert "object is no plugin" in refused(object())
        assert "NoneType is no plugin" in refused(None)

    def test_two_of_one_name(self) -> None:
        one = plugin(grctl_start=around)
        assert refused(one, plugin(grctl_send=around)) == "two plugins are named 'audit': give one of them another name"
        assert "two plugins are named" in refused(one, one)

    def test_two_that_are_equal_are_two(self) -> None:
        class Equal:
            grctl_start = around

            def __init__(self, name: str) -> None:
                self.name = name

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Equal)

            __hash__ = None  # type: ignore[assignment]

        assert layers(Equal("one"), Equal("two"))["start"] == ("one.grctl_start", "two.grctl_start")

    def test_what_has_to_stand_before_is_a_tuple(self) -> None:
        message = refused(plugin(grctl_start=around, listed_after="tracing"))
        assert message == "plugin 'audit': listed_after must be a tuple of names, not 'tracing'"

    def test_two_retries(self) -> None:
        message = refused(plugin("one", grctl_retry=around), plugin("two", grctl_retry=around))
        assert message == "'one' and 'two' both implement grctl_retry, and a client has one retry slot: leave one out"

    @pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "hookwrapper", "optionalhook"])
    def test_options_of_the_marker(self, option: str) -> None:
        async def marked(self: Any, call: Any, proceed: Any) -> Any: ...

        hookimpl(**{option: True})(marked)
        assert f"is marked with {option}, which has no effect here" in refused(plugin(grctl_start=marked))

    def test_a_property_is_not_evaluated(self) -> None:
        def broken(self: Any) -> Any:
            raise OSError("no database")

        assert "grctl_start is no method but property" in refused(plugin(grctl_start=property(broken)))

    @pytest.mark.parametrize("plugins", ["tracing", b"x", 7, plugin(grctl_start=around)])
    def test_no_list(self, plugins: Any) -> None:
        with pytest.raises(InvalidInputError, match="plugins must be a list of plugins and names, not"):
            WorkflowClient(ScriptedConnection(), plugins=plugins)


class Made:
    name = "made"
    grctl_start = around


def broken_factory() -> object:
    raise OSError("no database")


A_VALUE = "a string"


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(**values: str) -> None:
        found = [EntryPoint(name, value, door.ENTRY_POINT_GROUP) for name, value in values.items()]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **which: EntryPoints(found).select(**which))

    return install


class TestNames:
    def test_a_class_or_a_function_makes_it(self, entry_points: Any) -> None:
        entry_points(made=f"{__name__}:Made")
        assert layers("made") == {"start": ("made.grctl_start",)}
        assert load_plugin("made") is not load_plugin("made")

    def test_names_and_objects_mix(self, entry_points: Any) -> None:
        entry_points(made=f"{__name__}:Made")
        assert layers(plugin(grctl_start=around), "made")["start"] == ("audit.grctl_start", "made.grctl_start")

    def test_one_that_is_not_installed(self, entry_points: Any) -> None:
        entry_points(made=f"{__name__}:Made")
        message = refused("mad")
        assert message.startswith("no plugin is named 'mad': there are logging, made, retry, tracing.")

    def test_one_that_cannot_be_imported_is_named_and_harms_nobody(self, entry_points: Any) -> None:
        entry_points(bad="no_such_module:Plugin", worse=f"{__name__}:NoSuchClass", made=f"{__name__}:Made")
        assert refused("bad") == "the plugin 'bad' cannot be imported: No module named 'no_such_module'"
        assert "the plugin 'worse' cannot be imported: AttributeError" in refused("worse")
        assert "start" in layers("made")

    def test_one_that_cannot_be_made(self, entry_points: Any) -> None:
        entry_points(bad=f"{__name__}:broken_factory", text=f"{__name__}:A_VALUE")
        assert refused("bad") == "the plugin 'bad' could not be made: OSError: no database"
        assert "is str, not a class or a function that makes it" in refused("text")

    def test_two_claims(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = EntryPoints(
            [
                EntryPoint("made", "one:Plugin", door.ENTRY_POINT_GROUP),
                EntryPoint("made", "two:P", door.ENTRY_POINT_GROUP),
            ]
        )
        monkeypatch.setattr("importlib.metadata.entry_points", found.select)
        message = refused("made")
        assert message.startswith("two packages claim the plugin name 'made': one:Plugin")
        assert "two:P" in message

    def test_ours_come_first_and_cost_no_scan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def scan(**which: Any) -> Any:
            raise AssertionError("scanned")

        monkeypatch.setattr("importlib.metadata.entry_points", scan)
        monkeypatch.setattr(door, "OURS", {"made": f"{__name__}:Made"})
        assert "start" in layers("made")

    def test_a_missing_extra_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(door, "OURS", {"tracing": "no_such_package:TracingPlugin"})
        assert 'pip install "grctl-client[tracing]"' in refused("tracing")


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def made(self, entry_points: Any) -> None:
        entry_points(made=f"{__name__}:Made")

    def names(self, **options: Any) -> tuple[str, ...]:
        return WorkflowClient(ScriptedConnection(), **options).plugins.names

    def test_it_is_read_when_no_plugins_are_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRCTL_PLUGINS", " made ,")
        assert self.names() == ("made",)
        assert self.names(plugins=None) == ("made",)
        assert self.names(plugins=[]) == ()

    def test_empty_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRCTL_PLUGINS", "")
        assert self.names() == ()

    def test_an_unknown_name_says_where_it_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRCTL_PLUGINS", "made,mad")
        with pytest.raises(InvalidInputError, match=r"'mad' \(GRCTL_PLUGINS in the environment names it\)"):
            self.names()
