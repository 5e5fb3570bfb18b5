"""
Unmixing a spectrum image
=========================

The stages take any rows by features. Here the rows are the spectra of an EELS map, in which three materials mix: the
purest spectra are found by N-FINDR, and their shares in every pixel by fully constrained least squares.
"""

import matplotlib.pyplot as plt
import numpy as np

from stemseg_core import NFINDR, SVD, abundances
from stemseg_core.plot import OKABE_ITO

# %%
# A simulated map: a background that falls off by a power law, and the edges of two elements, titanium alone, or with
# oxygen. Electrons are counted.

rng = np.random.default_rng(0)
ny, nx = 60, 80
energy = np.linspace(400, 700, 301)
background = (energy / 400) ** -3.0


def edge(onset, height):
    """A white line on a step that decays."""
    step = height / (1 + np.exp(-(energy - onset) / 1.5)) * (energy / onset) ** -3.0
    return step + 1.2 * height * np.exp(-(((energy - onset - 5) / 3.5) ** 2))


spectra = np.stack([background, background + edge(456, 0.5), background + edge(456, 0.2) + edge(532, 0.4)])
y, x = np.mgrid[:ny, :nx]
particle = np.clip(1.5 - np.hypot(y - 28, x - 52) / 14, 0, 1)
film = np.clip((x - 12) / 16, 0, 1) * (1 - particle)
truth = np.stack([1 - particle - film, film, particle])
cube = rng.poisson(800 * np.einsum("kyx,ke->yxe", truth, spectra)).astype(np.float32)

# %%
# Counting noise is taken off first: it is what the first singular vectors leave. The purest spectra are sought in what
# they keep.

rows = cube.reshape(ny * nx, -1)
svd = SVD(3).fit(rows)
denoised = svd.inverse_transform(svd.transform(rows))
pure = NFINDR(3).fit(denoised)
shares = abundances(rows, pure.components_, constraint="fcls").T.reshape(3, ny, nx)

# %%
# Endmembers come in no particular order; each is paired with the true map that it is nearest to. The
# error is the root mean square over the map.

order = [int(np.argmin([np.abs(share - true).mean() for share in shares])) for true in truth]
figure, axes = plt.subplots(2, 3, figsize=(9, 5.2), layout="constrained")
for i, name in enumerate(("support", "film", "particle")):
    shown = axes[0, i].imshow(shares[order[i]], vmin=0, vmax=1, cmap="viridis", extent=(0, 160, 120, 0))
    error = np.sqrt(np.mean((shares[order[i]] - truth[i]) ** 2))
    axes[0, i].set(title=f"{name}, error {error:.3f}", xlabel="x / nm")
    axes[1, i].plot(energy, 800 * spectra[i], color="black", linewidth=3, label="true")
    axes[1, i].plot(energy, pure.components_[order[i]], color=OKABE_ITO[3], linewidth=1.2, label="found")
    axes[1, i].set(xlabel="energy loss / eV", xlim=(400, 700), ylim=(0, None))
    axes[1, i].spines[["top", "right"]].set_visible(False)
axes[0, 0].set_ylabel("y / nm")
axes[1, 0].set_ylabel("electrons")
axes[1, 0].legend(frameon=False)
figure.colorbar(shown, ax=axes[0], label="abundance", shrink=0.8)
