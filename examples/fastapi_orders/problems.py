"""What goes wrong, as HTTP answers (RFC 9457, "problem details"): one table, one handler."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import grctl

__all__ = ["answer_problems", "problem"]

log = logging.getLogger("orders")

# By the first class of the error's own order of bases that is in here: a class that comes new with a later version of
# the library gets what its base has.
STATUS = {
    grctl.GrctlError: 500,
    grctl.InvalidInputError: 422,
    # Nothing was done. The caller may simply repeat the request.
    grctl.ConnectionFailedError: 503,
    # It may have been done. The caller may repeat the request here too, as all requests of this service are idempotent.
    grctl.DeliveryUnknownError: 503,
    grctl.AccessDeniedError: 500,
    grctl.WorkflowNotFoundError: 404,
    grctl.WorkflowAlreadyRunningError: 409,
    grctl.WorkflowFinishedError: 409,
    grctl.WorkflowTypeNotRegisteredError: 503,
    grctl.UnsupportedOperationError: 501,
    # How a run ended, where a route awaits result() instead of outcome().
    grctl.WorkflowTimeoutError: 504,
    grctl.WorkflowCancelledError: 410,
}
RETRY_AFTER = {"Retry-After": "2"}


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """Return an answer that says what is wrong."""
    return JSONResponse(
        {"title": title, "status": status, "detail": detail},
        status,
        headers=RETRY_AFTER if status == 503 else None,
        media_type="application/problem+json",
    )


async def on_grctl_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with the error's status. What only an operator can mend is told to the log, not to the caller."""
    status = next(STATUS[base] for base in type(error).__mro__ if base in STATUS)
    if status == 500:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "Internal error", "see the service's log")
    if isinstance(error, grctl.DeliveryUnknownError):
        detail = "it is not known whether this was done; repeat the same request, nothing is done twice"
        return problem(status, "No answer", detail)
    return problem(status, type(error).__name__.removesuffix("Error"), str(error))


def answer_problems(app: FastAPI) -> None:
    """Have all errors of the library answered."""
    app.add_exception_handler(grctl.GrctlError, on_grctl_error)
