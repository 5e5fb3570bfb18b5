"""pysptools 0.15 on current NumPy and SciPy: puts back, before it is imported, what it uses and they have dropped.

Import `pysptools_shim` first; ``pysptools.eea.nfindr.NFINDR`` and ``pysptools.abundance_maps.amaps`` then run as they
stand. One fault is its own: ``NFINDR(transform=...)`` compares an array with None by ``==``, so scores are given as
the data, of which it takes a PCA of full rank: a rotation.
"""

from types import ModuleType

import numpy as np
import scipy.linalg

# The determinant that f2py made of LAPACK's getrf, of scipy.linalg until 1.10; N-FINDR calls it a row and component.
# Of all that is there now, this takes the least time a call, about two thirds of a microsecond.
_flinalg = ModuleType("scipy.linalg._flinalg")
_det = getattr(getattr(np.linalg, "_umath_linalg", None), "det", np.linalg.det)
_flinalg.sdet_c = lambda matrix: (_det(matrix), 0)
scipy.linalg._flinalg = _flinalg

# Aliases of the built-in types, of NumPy until 1.24; ATGP and the drawing of maps use them.
for _type in (int, float):
    setattr(np, _type.__name__, _type)
