"""What RosettaSciIO leaves to HyperSpy: functions that finish a signal, applied to a stand-in for HyperSpy's class.

Tests: tests/test_rosetta.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Posed:
    """A signal with those methods of HyperSpy's that readers use: on axes alone, whatever array there is.

    Parameters
    ----------
    found : dict
        What a reader of RosettaSciIO gives: "data", "axes", "post_process", ...

    Attributes
    ----------
    data : array
    axes : list of dict
        In the order of the array.
    ragged : bool
        Set by readers of data that are no array.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        self.data, axes = found["data"], found["axes"]
        if all(axis.get("index_in_array") is not None for axis in axes):
            axes = sorted(axes, key=lambda axis: int(axis["index_in_array"]))
        self.axes = [dict(axis) for axis in axes]
        self.ragged = False

    def to_signal1D(self, optimize: bool = True) -> Posed:  # noqa: N802 (HyperSpy's name)
        """The last axis of navigation becomes the one of the signal, and the last of the array."""
        navigation = [i for i, axis in enumerate(self.axes) if axis.get("navigate")]
        if navigation:
            spectral = navigation[-1]
            for i, axis in enumerate(self.axes):
                axis["navigate"] = i != spectral
            self._reorder([i for i in range(len(self.axes)) if i != spectral] + [spectral])
        return self

    def squeeze(self) -> Posed:
        """Without axes of one point, unless fewer than two would be left."""
        long = [i for i, axis in enumerate(self.axes) if self.data.shape[i] > 1]
        if len(long) >= 2:
            kept = set(long)
            self.data = self.data[tuple(slice(None) if i in kept else 0 for i in range(len(self.axes)))]
            self.axes = [self.axes[i] for i in long]
        return self

    def transpose(self) -> Posed:
        """Navigation and signal change places."""
        order = [i for i, axis in enumerate(self.axes) if not axis.get("navigate")]
        order += [i for i, axis in enumerate(self.axes) if axis.get("navigate")]
        for axis in self.axes:
            axis["navigate"] = not axis.get("navigate")
        self._reorder(order)
        return self

    def change_dtype(self, dtype: Any) -> None:
        """Another type of the values; "rgb8" and "rgb16" make colours of the last axis."""
        if str(dtype) not in ("rgb8", "rgb16"):
            self.data = self.data.astype(dtype)
        elif self.axes[-1]["size"] == 3:
            values = np.ascontiguousarray(self.data)
            self.data = values.view([(name, values.dtype) for name in "RGB"])[..., 0]
            self.axes = self.axes[:-1]
            for axis in self.axes[-2:]:
                axis["navigate"] = False

    def _reorder(self, order: list[int]) -> None:
        self.data, self.axes = self.data.transpose(order), [self.axes[i] for i in order]


def posed(found: dict[str, Any]) -> Posed:
    """A signal of RosettaSciIO as HyperSpy would show it."""
    signal = Posed(found)
    for finish in found.get("post_process") or ():
        signal = finish(signal) or signal
    return signal
