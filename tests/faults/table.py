"""The table: what each operation ends in under each fault. The tests assert it, and docs/reliability.md shows it.

A cell holds the verdicts that are right, by their short names; ``-``: the fault cannot strike that operation.
"""

from __future__ import annotations

from enum import Enum

from grctl import (
    ConnectionClosedError,
    ConnectionFailedError,
    DecodeError,
    DeliveryUnknownError,
    NotSentError,
    WorkflowNotFoundError,
)

__all__ = ["FAULTS", "TABLE", "Fault", "Operation", "Verdict", "in_markdown", "verdict_of"]


class Operation(Enum):
    """What a user does."""

    CONNECT = "connect"
    START = "start"
    SEND = "send"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    DESCRIBE = "describe"
    RESULT = "result"
    HISTORY = "history"
    LIST = "list"
    CLOSE = "close"
    CLOSE_BUSY = "close, busy"


class Fault(Enum):
    """What goes wrong, with what is asked or answered under way."""

    REQUEST_LOST = "the request is lost, the connection stays"
    REPLY_LOST = "the reply is lost, the connection stays"
    REPLY_TWICE = "the reply comes twice"
    REPLY_LATE = "the reply comes after the caller has given up"
    REPLY_GARBLED = "the reply is garbled"
    CUT_BEFORE_SEND = "the connection is cut before the request gets through"
    CUT_AFTER_SEND = "the connection is cut after the request got through"
    CUT_BEFORE_REPLY = "the connection is cut before the reply gets through"
    HALF_OPEN = "the connection is half-open: nothing gets through, neither side is told"
    THROTTLED = "the broker's answers come a byte at a time"
    CLOCK_STEPPED = "the clock is set an hour forward or back"
    CANCELLED = "the caller is cancelled, at every await in turn"
    KILLED = "the broker is killed, and started again"
    AWAY = "the broker is away when it is called, and comes later"
    STOPPED = "the broker is stopped for longer than the caller waits, and goes on"
    SLOW_CONSUMER = "the broker cuts the client off, as a slow consumer"
    PURGED = "the stream is purged"
    LAME_DUCK = "the cluster's node that it is connected to goes into lame-duck mode"
    NODE_KILLED = "the cluster's node that it is connected to is killed"
    LEADER_MOVED = "the stream's leader moves to another node of the cluster"


class Verdict(Enum):
    """What the caller is told."""

    DONE = "done"
    DOUBT = "doubt"
    NOT_SENT = "not-sent"
    NOT_FOUND = "not-found"
    CLOSED = "closed"
    FAILED = "failed"
    UNREADABLE = "unreadable"
    CANCELLED = "cancelled"
    OTHER = "other"


_BY_ERROR = {
    DeliveryUnknownError: Verdict.DOUBT,
    NotSentError: Verdict.NOT_SENT,
    ConnectionClosedError: Verdict.CLOSED,
    WorkflowNotFoundError: Verdict.NOT_FOUND,
    DecodeError: Verdict.UNREADABLE,
}


def verdict_of(error: BaseException | None) -> Verdict:
    """Return what an error of ours, or none, tells the caller. OTHER stands in no cell."""
    if error is None:
        return Verdict.DONE
    for kind, verdict in _BY_ERROR.items():
        if isinstance(error, kind):
            return verdict
    return Verdict.FAILED if type(error) is ConnectionFailedError else Verdict.OTHER


_GRID = """
                  connect   start      send       cancel     terminate  describe   result      history     list       close  busy
REQUEST_LOST      done      done       doubt      done       done       doubt      done        done        doubt      -      doubt
REPLY_LOST        done      done       doubt      done       done       doubt      done        done        doubt      -      doubt
REPLY_TWICE       done      done       done       done       done       done       done        done        done       -      done
REPLY_LATE        done      done       doubt      done       done       doubt      done        done        doubt      -      doubt
REPLY_GARBLED     done      done       doubt      done       done       doubt      unreadable  unreadable  unreadable -      done/doubt
CUT_BEFORE_SEND   done      done       doubt      done       done       doubt      done        done        doubt      done   doubt
CUT_AFTER_SEND    done      done       doubt      done       done       doubt      done        done        doubt      -      doubt
CUT_BEFORE_REPLY  done      done       doubt      done       done       doubt      done        done        doubt      -      doubt
HALF_OPEN         done      doubt      doubt      doubt      doubt      doubt      done        done        doubt      done   doubt
THROTTLED         done      done       done       done       done       done       done        done        done       done   done/doubt
CLOCK_STEPPED     done      done       done       done       done       done       done        done        done       done   done/doubt/closed
CANCELLED         cancelled cancelled  cancelled  cancelled  cancelled  cancelled  cancelled   cancelled   cancelled  cancelled cancelled
KILLED            done      done       doubt      done       done       doubt      done        done        doubt      done   doubt
AWAY              failed    not-sent   not-sent   not-sent   not-sent   not-sent   done        done        not-sent   done   not-sent/closed
STOPPED           failed    doubt      doubt      doubt      doubt      doubt      done        done        doubt      done   doubt
SLOW_CONSUMER     done      done       done       done       done       done       done        done        doubt      -      done/doubt
PURGED            done      done       done       done       done       done       not-found   not-found   done       done   done/doubt
LAME_DUCK         done      done       doubt      done       done       doubt      done        done        doubt      done   doubt
NODE_KILLED       done      done       doubt      done       done       doubt      done        done        doubt      done   doubt
LEADER_MOVED      done      done       done       done       done       done       done        done        done/doubt done   done/doubt
"""  # noqa: E501 - a table


def _read(grid: str) -> dict[tuple[Fault, Operation], frozenset[Verdict]]:
    _, *rows = grid.strip().splitlines()
    table = {}
    for row in rows:
        name, *cells = row.split()
        for operation, cell in zip(Operation, cells, strict=True):
            if cell != "-":
                table[Fault[name], operation] = frozenset(map(Verdict, cell.split("/")))
    return table


TABLE = _read(_GRID)
"""The verdicts that are right for an operation under a fault; what is not there cannot be."""

FAULTS = tuple(dict.fromkeys(fault for fault, _ in TABLE))


def in_markdown() -> str:
    """Return the table as docs/reliability.md shows it."""
    lines = ["| " + " | ".join(["", *(operation.value for operation in Operation)]) + " |"]
    lines.append("|---" * (len(Operation) + 1) + "|")
    for fault in FAULTS:
        cells = [fault.value]
        for operation in Operation:
            verdicts = TABLE.get((fault, operation), frozenset())
            cells.append(" or ".join(verdict.value for verdict in Verdict if verdict in verdicts) or "–")  # noqa: RUF001
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
