"""Real images with a truth, if they are there: ``real/images.json`` in the folder that STEMSEG_DATA names.

It maps names to records with "file", "phases" (how many), "kind", and "truth" (whether ``real/truth/NAME.npz`` has
``labels``, one a pixel). They are public figures under licences of their own, and no part of the package.
"""

import json
import os
from pathlib import Path

import numpy as np

from stemseg_core.io import read_image

Map = np.ndarray


def real_images() -> dict[str, tuple[str, Map, Map]]:
    """Kind, pixels and truth of each image that has one; none if there are none."""
    folder = Path(os.environ.get("STEMSEG_DATA", "")) / "real"
    listed = folder / "images.json"
    if "STEMSEG_DATA" not in os.environ or not listed.exists():
        return {}
    found = {}
    for name, record in json.loads(listed.read_text()).items():
        if record["truth"]:
            truth = np.load(folder / "truth" / f"{name}.npz")["labels"]
            found[name] = record["kind"], np.squeeze(read_image(folder / record["file"]).data), truth
    return found
