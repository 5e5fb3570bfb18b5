"""The report of a segmentation, where it has always been imported from; see `stemseg_core.plot.report`."""

from stemseg_core.plot.report import write_report

__all__ = ["write_report"]
