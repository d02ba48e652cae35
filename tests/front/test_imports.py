"""grctl: every documented import works, and ``import grctl`` is light."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import grctl
from grctl_core.collision import refuse_collision

HEAVY = ["nats", "pluggy", "importlib.metadata", "opentelemetry", "structlog", "pydantic", "msgspec", "asyncio"]


def python(code: str) -> str:
    """Run code in an interpreter of its own, which sees the same packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "name", "home"),
    [
        ("grctl.nats.connection", "Connection", "grctl_nats.connection.NatsConnection"),
        ("grctl.client.client", "Client", "grctl_core.client.WorkflowClient"),
        ("grctl.models.errors", "WorkflowError", "grctl_core.errors.WorkflowError"),
        ("grctl.models.common", "ErrorDetails", "grctl_core.outcome.ErrorDetails"),
        ("grctl.models.directive", "Directive", "grctl_engine.directive.Directive"),
        ("grctl.workflow", "Workflow", "grctl_engine.definition.Workflow"),
        ("grctl.workflow", "Directive", "grctl_engine.directive.Directive"),
        ("grctl.worker", "Context", "grctl_engine.context.Context"),
        ("grctl.worker.context", "Context", "grctl_engine.context.Context"),
        ("grctl.protocols", "Connection", "grctl_core.protocols.Connection"),
        ("grctl.protocols", "Client", "grctl_core.protocols.Client"),
        ("grctl.protocols", "Handle", "grctl_core.protocols.Handle"),
        ("grctl", "Client", "grctl_core.client.WorkflowClient"),
        ("grctl", "connect", "grctl.connecting.connect"),
    ],
)
def test_each_documented_path_is_the_thing_itself(module: str, name: str, home: str) -> None:
    home_module, _, home_name = home.rpartition(".")
    assert getattr(importlib.import_module(module), name) is getattr(importlib.import_module(home_module), home_name)


def test_the_documented_imports_as_a_user_writes_them() -> None:
    assert (
        python(
            "from grctl.nats.connection import Connection; from grctl.client.client import Client; "
            "from grctl.models.errors import WorkflowError; import grctl; print('ok')"
        )
        == "ok"
    )


@pytest.mark.parametrize("name", grctl.__all__)
def test_each_public_name_loads_when_it_is_used(name: str) -> None:
    assert getattr(grctl, name) is not None
    assert name in dir(grctl)


def test_star_import_brings_all() -> None:
    namespace: dict[str, object] = {}
    exec("from grctl import *", namespace)
    assert set(grctl.__all__) <= namespace.keys()


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'grctl' has no attribute 'Cliant'"):
        _ = grctl.Cliant  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from grctl import Cliant", {})


def test_type_checkers_see_the_names_that_load() -> None:
    tree = ast.parse(inspect.getsource(grctl))
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.keys() | {"__version__"} == set(grctl.__all__)
    for name, home in seen.items():
        module, _, attribute = home.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is getattr(grctl, name)


def test_every_error_is_at_hand() -> None:
    errors = importlib.import_module("grctl_core.errors")
    names = {name for name in errors.__all__ if name.endswith("Error")}
    assert names <= set(grctl.__all__)
    assert names == set(importlib.import_module("grctl.models.errors").__all__)


def test_importing_grctl_loads_nothing_heavy() -> None:
    loaded = python(f"import sys; before = set(sys.modules); import grctl; print(set({HEAVY!r}) & set(sys.modules))")
    assert loaded == "set()"


def test_the_embedded_engine_loads_no_driver_and_no_extra() -> None:
    loaded = python(
        "import sys, asyncio, grctl\n"
        "async def main():\n"
        "    async with await grctl.connect('memory://', workflows=[]) as connection:\n"
        "        grctl.Client(connection=connection)\n"
        "asyncio.run(main())\n"
        f"print(set({HEAVY[:6]!r}) & set(sys.modules))"
    )
    assert loaded == "set()"


OTHER = "grctl_sdk_python-0.4.1.dist-info"


def test_the_servers_own_sdk_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grctl").mkdir()
    init = str(tmp_path / "grctl" / "__init__.py")
    (tmp_path / "grctl_client-0.1.0.dist-info").mkdir()
    refuse_collision(init)
    (tmp_path / OTHER).mkdir()
    with pytest.raises(ImportError, match=r"grctl-client and grctl-sdk-python are both installed .* pip uninstall"):
        refuse_collision(init)


def test_a_package_that_lies_in_no_folder_is_no_collision(tmp_path: Path) -> None:
    refuse_collision(str(tmp_path / "gone" / "app.zip" / "grctl" / "__init__.py"))


def test_importing_beside_the_sdk_fails_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "grctl").symlink_to(Path(grctl.__file__).parent)
    (tmp_path / OTHER).mkdir()
    said = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import grctl")
    assert said.startswith(
        "grctl_core.collision.PackageCollisionError: grctl-client and grctl-sdk-python are both installed"
    )


@pytest.mark.parametrize("whose", ["ours", "the SDK's"])
def test_the_command_beside_the_sdk_says_so_in_one_line(tmp_path: Path, whose: str) -> None:
    root = Path(grctl.__file__).parents[1]
    for package in ("grctl_core", "grctl_launch"):
        (tmp_path / package).symlink_to(root / package)
    if whose == "ours":
        (tmp_path / "grctl").symlink_to(root / "grctl")
    else:
        (tmp_path / "grctl").mkdir()
        (tmp_path / "grctl" / "__init__.py").write_text("raise AssertionError('it is not imported')\n")
    (tmp_path / OTHER).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from grctl_launch import main\nmain()", "workflow", "list"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("grctl-client: grctl-client and grctl-sdk-python are both installed")
    assert "pip uninstall -y grctl-client grctl-sdk-python" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_begins_outside_the_package_that_may_be_broken() -> None:
    project = tomllib.loads((Path(grctl.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"grctl-client": "grctl_launch:main"}
    assert python("import sys; sys.argv[1:] = ['--version']; from grctl_launch import main; main()").startswith("grctl")
