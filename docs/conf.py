"""Configuration of Sphinx: sphinx-build -W docs docs/_build."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_figures

project = "stemseg-core"
author = "stemseg-core developers"
copyright = "stemseg-core developers"
release = version = installed_version("stemseg-core")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
default_role = "autolink"

autosummary_generate = True
autodoc_default_options = {
    "members": True,
    # scikit-learn adds these for its metadata routing
    "exclude-members": ", ".join(
        f"set_{method}_request" for method in ("fit", "inverse_transform", "predict", "score", "transform")
    ),
}
autodoc_typehints = "none"  # the docstrings say it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib", "gallery_figures.last_figure"),
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "stemseg-core"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False, "show_toc_level": 2}
html_sidebars = {"**": []}
html_show_sourcelink = False
