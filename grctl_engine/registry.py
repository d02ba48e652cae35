"""The registry: the workflow types that an engine runs."""

from __future__ import annotations

from collections.abc import Iterable

from grctl_core.errors import InvalidInputError
from grctl_engine.definition import Definition, Workflow

__all__ = ["resolve_all"]


def resolve_all(workflows: Iterable[Workflow]) -> dict[str, Definition]:
    """Return the definitions of workflow types, by name.

    Raises:
        InvalidInputError: something among them is no workflow, a type is there twice, has no start handler or
            annotations that cannot be resolved.

    """
    if isinstance(workflows, Workflow):
        raise InvalidInputError(f"workflows must be a list: workflows=[{workflows.workflow_type}]")
    try:
        listed = list(workflows)
    except TypeError:
        raise InvalidInputError(f"workflows must be a list of Workflow objects, not {workflows!r}") from None
    definitions: dict[str, Definition] = {}
    for position, workflow in enumerate(listed):
        if not isinstance(workflow, Workflow):
            raise InvalidInputError(
                f"workflows[{position}] is no Workflow but {workflow!r}: pass the object that was made with "
                "Workflow(workflow_type=...)"
            )
        if workflow.workflow_type in definitions:
            raise InvalidInputError(f"workflow type {workflow.workflow_type!r} is in workflows twice")
        definitions[workflow.workflow_type] = workflow.resolve()
    return definitions
