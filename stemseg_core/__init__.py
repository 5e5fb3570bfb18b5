"""Fast, exact segmentation of atomic-resolution STEM images into phases, and the unmixing stages behind it."""

try:
    from stemseg_core._kernels import SIMD_LEVEL
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("stemseg_core._kernels"):
        raise
    raise ImportError(
        "stemseg_core is imported from its source tree, which holds no compiled kernels. Run Python outside of the "
        "checkout, or with -P, or install it for development: pip install --no-build-isolation -e '.[test]'"
    ) from error

from stemseg_core import datasets
from stemseg_core.calibration.axes import Axis
from stemseg_core.cubes.unmix import unmix
from stemseg_core.cubes.unmixing import Unmixing
from stemseg_core.lattices.lattice import Lattice, Spacing
from stemseg_core.lattices.properties import Region
from stemseg_core.phases.n_components import estimate_n_components
from stemseg_core.phases.segment import segment
from stemseg_core.phases.segmentation import PhaseWarning, Segmentation
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.compress import Compressed, compress
from stemseg_core.stages.estimates import ComponentEstimate, Curve, Separation
from stemseg_core.stages.ica import ICA
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.stages.mnf import MNF
from stemseg_core.stages.nfindr import NFINDR
from stemseg_core.stages.nmf import NMF
from stemseg_core.stages.spa import ATGP, SPA
from stemseg_core.stages.svd import SVD
from stemseg_core.stages.vca import VCA
from stemseg_core.system.threads import Stopped
from stemseg_core.system.versions import VERSION, show_versions
from stemseg_core.windows.matrix import WindowMatrix
from stemseg_core.windows.windows import WindowFFT

__version__ = VERSION

__all__ = [
    "ATGP",
    "ICA",
    "MNF",
    "NFINDR",
    "NMF",
    "SIMD_LEVEL",
    "SPA",
    "SVD",
    "VCA",
    "Axis",
    "ComponentEstimate",
    "Compressed",
    "Curve",
    "KMeans",
    "Lattice",
    "PhaseWarning",
    "Region",
    "Segmentation",
    "Separation",
    "Spacing",
    "Stopped",
    "Unmixing",
    "WindowFFT",
    "WindowMatrix",
    "abundances",
    "compress",
    "datasets",
    "estimate_n_components",
    "segment",
    "show_versions",
    "unmix",
]
