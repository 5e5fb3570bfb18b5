"""Fast, exact segmentation of atomic-resolution STEM images into phases, and the unmixing stages behind it."""

from importlib.metadata import version as _version

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
from stemseg_core.abundances import abundances
from stemseg_core.compress import Compressed, compress
from stemseg_core.curves import ComponentEstimate
from stemseg_core.ica import ICA
from stemseg_core.kmeans import KMeans
from stemseg_core.n_components import estimate_n_components
from stemseg_core.nfindr import NFINDR
from stemseg_core.nmf import NMF
from stemseg_core.segment import segment
from stemseg_core.segmentation import PhaseWarning, Segmentation
from stemseg_core.spa import ATGP, SPA
from stemseg_core.svd import SVD
from stemseg_core.threads import Stopped
from stemseg_core.vca import VCA
from stemseg_core.versions import show_versions
from stemseg_core.windows import WindowFFT, WindowMatrix

__version__ = _version("stemseg-core")

__all__ = [
    "ATGP",
    "ICA",
    "NFINDR",
    "NMF",
    "SIMD_LEVEL",
    "SPA",
    "SVD",
    "VCA",
    "ComponentEstimate",
    "Compressed",
    "KMeans",
    "PhaseWarning",
    "Segmentation",
    "Stopped",
    "WindowFFT",
    "WindowMatrix",
    "abundances",
    "compress",
    "datasets",
    "estimate_n_components",
    "segment",
    "show_versions",
]
