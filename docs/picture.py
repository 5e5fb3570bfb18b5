"""Makes docs/images/demo.png, the picture of README.md, from a simulated image: python docs/picture.py."""

from pathlib import Path

from stemseg_core import datasets, segment
from stemseg_core.plot import plot

image, _ = datasets.polycrystal((512, 512), 6, 3, pixel_size=0.015, random_state=0)
figure = plot(segment(image, 3, pixel_size=0.015))
figure.savefig(Path(__file__).parent / "images" / "demo.png", dpi=80, pil_kwargs={"optimize": True})
