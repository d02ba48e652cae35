"""What calls take, return and raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grctl_engine.directive import Directive as Directive

__all__ = ["Directive"]


def __getattr__(name: str) -> Any:
    if name == "Directive":  # the errors beside it are light, and the engine is not
        from grctl_engine.directive import Directive

        return Directive
    raise AttributeError(f"module 'grctl.models' has no attribute {name!r}")
