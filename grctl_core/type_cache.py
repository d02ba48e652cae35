"""TypeCache: the registered workflow types, read once each."""

from __future__ import annotations

from grctl_core.errors import DeliveryUnknownError, InvalidInputError, NotSentError
from grctl_core.wire import Wire
from grctl_core.workflow_type import TypeInfo

__all__ = ["TypeCache"]


class TypeCache:
    """What one client knows of the workflow types registered on its server."""

    __slots__ = ("_types", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._types: dict[str, TypeInfo] = {}

    async def check_event(self, workflow_type: str, event_name: str, timeout: float) -> None:
        """Make sure that the type handles the event: one that it does not would block the run's inbox and fail it.

        A type that is not registered is let through: the server, not we, knows best. A name that is not found is
        looked for once more in the server's present record, as a worker may have been replaced by a newer one.

        Raises:
            InvalidInputError: the type has no such event; the message has the names of those that it has.
            NotSentError: the registered definition could not be read.

        """
        known = self._types.get(workflow_type)
        if known is not None and event_name in known.events:
            return
        try:
            known = await self._wire.find_type(workflow_type, timeout)
        except DeliveryUnknownError as error:
            raise NotSentError(
                f"event {event_name!r} not sent: looking up the workflow type {workflow_type!r} failed: {error}"
            ) from error
        if known is None:
            self._types.pop(workflow_type, None)
            return
        self._types[workflow_type] = known
        if event_name not in known.events:
            names = ", ".join(repr(name) for name in sorted(known.events)) or "none at all"
            raise InvalidInputError(
                f"workflow type {workflow_type!r} has no event {event_name!r}: it has {names}. "
                "To send it nevertheless pass check_event=False"
            )
