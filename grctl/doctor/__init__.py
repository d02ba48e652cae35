"""The doctor: looks at everything between this machine and a working server, one step after the other."""

from grctl.doctor.examination import Examination, examine
from grctl.doctor.finding import Finding, Level
from grctl.doctor.repair import repair

__all__ = ["Examination", "Finding", "Level", "examine", "repair"]
