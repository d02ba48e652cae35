"""A plugin of pytest: connections without safeguard 6, so that defect 6 can strike. ``-p live.unguarded``."""

from __future__ import annotations

import functools

import grctl
from grctl_nats import Safeguards

grctl.connect = functools.partial(grctl.connect, safeguards=Safeguards(settled_before_send=False))
