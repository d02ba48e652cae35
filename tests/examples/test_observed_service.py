"""examples/observed_service.py: a lost reply, as logs and a trace show it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "observed_service.py"

LOGGED = """\
WARNING trace=T [order-7] grctl: grctl.retry operation=start error=DeliveryUnknownError RUN attempt=2 delay=N
INFO    trace=T [order-7] grctl: grctl.operation operation=start result=ok RUN attempts=2 duration=N
INFO    trace=T [order-7] shop: order accepted
INFO    trace=T [order-7] grctl: grctl.operation operation=send result=ok RUN event_name=approve attempts=1 duration=N
INFO    trace=- [order-7] grctl: grctl.run_ended status=completed RUN waited=N
INFO    trace=T [order-7] shop: order tea shipped, approved by Ada
INFO    trace=- [-] grctl: grctl.connection state=closed
"""

DRAWN = """\
POST /orders (INTERNAL) N ms
├── grctl/start (CLIENT) N ms
│   │   * grctl.retry
│   ├── run.start (PRODUCER) N ms, DeliveryUnknownError
│   └── run.describe (CLIENT) N ms
├── grctl/send (CLIENT) N ms
│   └── run.event (PRODUCER) N ms
└── grctl/result (INTERNAL) N ms
"""


def test_it_prints_the_log_and_the_trace_of_a_start_whose_reply_was_lost():
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout
    for identified in (r"trace=([0-9a-f]{8}) ", r" run_id=([0-9A-Z]{26}) "):
        assert len(set(re.findall(identified, printed))) == 1  # one trace, one run
    printed = re.sub(r"trace=[0-9a-f]{8} ", "trace=T ", printed)
    printed = re.sub(r"workflow_id=order-7 run_id=[0-9A-Z]{26} workflow_type=Order", "RUN", printed)
    printed = re.sub(r"(delay|duration|waited)=[\de.-]+", r"\1=N", printed)
    printed = re.sub(r" \d+ ms", " N ms", printed)
    assert printed == f"{LOGGED}\nreplies lost: 1, runs on the server: 1\n\n{DRAWN}"
