"""Shows in the gallery what a notebook would: the figure, made without pyplot, that a block of an example ends with."""

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def last_figure(_block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Scraper of sphinx-gallery: saves the value of the last expression, if it is such a figure."""
    values = block_vars["example_globals"]
    figure = values.get("___")  # the name that sphinx-gallery gives that value
    if not isinstance(figure, Figure) or figure.canvas.manager is not None:
        return ""
    values["___"] = None  # not shown again, nor written as text
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path)
    return figure_rst([path], gallery_conf["src_dir"])
