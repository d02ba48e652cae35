"""docs/reliability.md shows the table that the tests assert."""

from __future__ import annotations

import runpy
from pathlib import Path

from .rounds import FAULT_DRIVERS
from .table import TABLE, Fault, Operation
from .test_matrix_broker import FAULTS as AT_THE_BROKER
from .test_matrix_cluster import FAULTS as IN_A_CLUSTER
from .test_matrix_wire import FAULTS as ON_THE_WIRE

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    with_matrix = runpy.run_path(str(ROOT / "scripts" / "fault_matrix.py"))["with_matrix"]
    assert page == with_matrix(page), "run scripts/fault_matrix.py"


def test_each_fault_is_played_once() -> None:
    assert sorted((*ON_THE_WIRE, *AT_THE_BROKER, *IN_A_CLUSTER), key=list(Fault).index) == list(Fault)
    assert FAULT_DRIVERS.keys() | {Fault.CANCELLED} == set(Fault)
    assert {operation for _, operation in TABLE} == set(Operation)
