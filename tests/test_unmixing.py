"""Pictures of an unmixing (plot/unmixing, plot/scales), and its report (unmixing_report, unmixing_explorer)."""
