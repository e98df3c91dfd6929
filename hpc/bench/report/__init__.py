"""The report of a suite: all of it on one page that needs no other file."""

from polarcast.hpc.bench.report.parts import Picture, ReportContext, Section
from polarcast.hpc.bench.report.write import write_report

__all__ = ["Picture", "ReportContext", "Section", "write_report"]
