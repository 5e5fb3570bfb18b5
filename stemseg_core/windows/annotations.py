"""Scale bars and text that were burnt into the pixels of a picture: what is no specimen, and is left out.

Drawn pixels are the lightest or the darkest of the picture, alike to a few grey levels, and end within two pixels.
Atoms and holes that saturate are alike too, but what they look like, they look like in many places: what is drawn is
rare. So three things are taken for drawn: a solid bar that ends within the picture; a solid box around one; and strokes
of even height in a row, beside a bar or anywhere. A single letter, a frame, and ink that is neither the lightest nor
the darkest are not found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes, distance_transform_edt, find_objects, label

from stemseg_core.system.types import Array

#: How far drawn pixels may be from the extreme, as a share of the range: JPEG changes them by a few of 255 levels.
#: Twice as much: bright atoms join the letters that they touch.
TOLERANCE = 0.025
#: Least length of a bar in pixels. Twice as much: short bars are missed.
BAR_LENGTH = 24
#: Least ratio of its length to its height. Twice as much: thick bars are missed.
BAR_RATIO = 5.0
#: Least share of its rectangle that a bar or a box fills. Half as much: whatever is longish is one.
SOLID = 0.95
#: Least share of what is not the colour of a box within it that is of the other extreme. Twice as much: thin letters,
#: which are mostly edge, are none.
WRITTEN = 0.33
#: Least height of a letter in pixels. Twice as much: small print is missed.
LETTER_HEIGHT = 6
#: Largest height of a letter, as a share of that of the picture. Twice as much: bright grains may be letters.
LETTER_SHARE = 0.15
#: Largest thickness of the strokes of a letter, as a share of its height. Twice as much: round spots are letters.
STROKE = 0.4
#: Least difference of the pixels just outside to those inside, as a share of the range: drawn things end at once. Half
#: as much: what saturates gradually is drawn.
SHARP = 0.3
#: Pixels within which it ends: its softened edge, and the rim of JPEG. Twice as many: its surroundings are left out.
EDGE = 2
#: Most bars, most boxes, and most rows of letters in a picture; of lattice planes that saturate there are more. Twice
#: as many: a few of those are bars.
MOST = 4
#: Most things that are looked at one by one as a bar, a box or a letter; with more of them the extreme is not rare.
#: Twice as many: twice the time for pictures of few electrons.
MANY = 200
#: Least share of the pixels of an extreme that is drawn, for text that stands alone. Twice as much: no atom saturates
#: beside a text.
MAIN_SHARE = 0.5
#: Largest share of the pixels that is drawn. Twice as much: half of a picture may be its label.
LARGEST_SHARE = 0.25


class Box(NamedTuple):
    """A rectangle of pixels, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def around(self, other: Box) -> Box:
        """The smallest that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, y: float, x: float, shape: tuple[int, ...]) -> Box:
        """The same with a margin, as far as there are pixels."""
        return Box(
            max(0, int(self.top - y)),
            max(0, int(self.left - x)),
            min(shape[0], int(self.bottom + y) + 1),
            min(shape[1], int(self.right + x) + 1),
        )

    def holds(self, other: Box) -> bool:
        return self.around(other) == self


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is drawn into a picture.

    Attributes
    ----------
    mask : ndarray of bool of shape (y, x)
        Drawn pixels, with their edges.
    boxes : list of Box
        Around bars, with the text beside them, and around other text.
    """

    mask: NDArray[np.bool_]
    boxes: list[Box]

    @property
    def words(self) -> str:
        """What is left out, as a note."""
        return f"{self._what} is left out, and has the phase around it; `annotations` can keep it"

    @property
    def words_if_kept(self) -> str:
        """The same where nothing is left out."""
        return f"{self._what} is kept, for hardly a window would be left without; cut the picture, or give a `mask`"

    @property
    def _what(self) -> str:
        places = "; ".join(f"y {b.top} to {b.bottom - 1}, x {b.left} to {b.right - 1}" for b in self.boxes)
        return f"what looks like a scale bar or text in the picture ({places})"


def find_annotations(image: Array, extremes: tuple[Any, Any], mask: NDArray[np.bool_] | None) -> Annotations | None:
    """Look for what is drawn into a picture.

    Parameters
    ----------
    image : ndarray of shape (y, x)
        Finite, but for excluded pixels.
    extremes : (low, high)
        The smallest and the largest pixel that is not excluded.
    mask : ndarray of bool of shape (y, x), optional
        True: excluded. Nothing is looked for there.

    Returns
    -------
    Annotations or None
        None if nothing is found.

    Notes
    -----
    Cost: two comparisons of every pixel, and the labelling of the pixels that are extreme.
    """
    low, high = (float(extreme) for extreme in extremes)
    if not 0 < high - low < np.inf:
        return None
    found = [some for ink, paper in ((high, low), (low, high)) for some in _Ink(image, ink, paper, mask).drawn()]
    drawn = np.zeros(image.shape, bool)
    for _, pixels in found:
        drawn |= pixels
    if not drawn.any() or drawn.mean() > LARGEST_SHARE:
        return None
    boxes: list[Box] = []
    for box, _ in sorted(found, key=lambda some: -some[0].height * some[0].width):
        if not any(larger.holds(box) for larger in boxes):
            boxes.append(box)
    return Annotations(binary_dilation(drawn, np.ones((3, 3)), iterations=EDGE), boxes)


class _Ink:
    """Pixels of one extreme, and what they make up."""

    def __init__(self, image: Array, ink: float, paper: float, mask: NDArray[np.bool_] | None) -> None:
        self.image, self.ink, self.paper, self.mask = image, ink, paper, mask
        self.range = abs(ink - paper)
        self.numbers, n = label(self.near(ink), np.ones((3, 3)))
        boxes = [(y.start, x.start, y.stop, x.stop) for y, x in find_objects(self.numbers)]
        self.boxes = np.array(boxes, int).reshape(-1, 4)
        self.areas = np.bincount(self.numbers.ravel(), minlength=n + 1)[1:]

    def near(self, value: float, part: tuple[slice, slice] = np.s_[:, :]) -> NDArray[np.bool_]:
        """Which pixels of a part are within the tolerance of a value, and not excluded."""
        far, image = TOLERANCE * self.range, self.image[part]
        with np.errstate(invalid="ignore"):
            near: NDArray[np.bool_] = (
                image >= value - far if value == max(self.ink, self.paper) else image <= value + far
            )
        return near if self.mask is None else near & ~self.mask[part]

    def drawn(self) -> list[tuple[Box, NDArray[np.bool_]]]:
        """Solid boxes with what is in them, bars with their text, and rows of letters."""
        tops, lefts, bottoms, rights = self.boxes.T
        heights, widths = bottoms - tops, rights - lefts
        full = self.areas >= SOLID * heights * widths
        long = (widths >= BAR_LENGTH) & (widths >= BAR_RATIO * heights) & (heights >= 2)
        within = (tops > 0) & (lefts > 0) & (bottoms < self.image.shape[0]) & (rights < self.image.shape[1])
        bars = self._those(full & long & within, self._ends)
        wide = (heights >= 2 * LETTER_HEIGHT) & (widths >= 2 * LETTER_HEIGHT)
        solid = self._those(wide & (heights * widths <= LARGEST_SHARE * self.image.size), self._is_box)
        upright = (heights >= LETTER_HEIGHT) & (heights <= LETTER_SHARE * self.image.shape[0]) & (widths <= 2 * heights)
        letters = self._those(upright & ~(full & long), self._is_letter)
        found = []
        for i in solid if len(solid) <= MOST else []:
            pixels = np.zeros(self.image.shape, bool)
            pixels[self._box(i).slices] = True
            found.append((self._box(i), pixels))
        for i in bars if len(bars) <= MOST else []:
            box = self._box(i)
            beside = box.grown(0.5 * box.width, 0.25 * box.width, self.image.shape)
            found.append(self._together([i, *(j for j in letters if beside.holds(self._box(j)))]))
        rows = [[letters[j] for j in row] for row in _rows([self._box(i) for i in letters])]
        of_all = self.areas[[*bars, *solid, *(i for row in rows for i in row)]].sum() / max(1, self.areas.sum())
        if len(rows) <= MOST and of_all >= MAIN_SHARE:
            found += map(self._together, rows)
        return found

    def _those(self, like: NDArray[np.bool_], is_one: Callable[[int], bool]) -> list[int]:
        """Which of those that are like something are it; none if too many are like it."""
        some = np.flatnonzero(like).tolist()
        return [i for i in some if is_one(i)] if len(some) <= MANY else []

    def _box(self, i: int) -> Box:
        return Box(*self.boxes[i].tolist())

    def _together(self, which: list[int]) -> tuple[Box, NDArray[np.bool_]]:
        box = self._box(which[0])
        for i in which[1:]:
            box = box.around(self._box(i))
        return box, np.isin(self.numbers, np.array(which) + 1)

    def _is_box(self, i: int) -> bool:
        """Whether it is a solid rectangle but for what is written into it, in the other extreme."""
        box = self._box(i)
        own = self.numbers[box.slices] == i + 1
        written = binary_fill_holes(own) & ~own
        border = np.concatenate([own[0], own[-1], own[:, 0], own[:, -1]])
        if border.mean() < SOLID or own.sum() + written.sum() < SOLID * own.size or not written.any():
            return False
        return bool((self.near(self.paper, box.slices) & written).sum() >= WRITTEN * written.sum())

    def _is_letter(self, i: int) -> bool:
        """Whether it is made of thin strokes that end at once."""
        box = self._box(i)
        own = np.pad(self.numbers[box.slices] == i + 1, 1)
        thickness = 2 * float(distance_transform_edt(own).max()) - 1
        return thickness <= max(2.0, STROKE * box.height) and self._ends(i)

    def _ends(self, i: int) -> bool:
        """Whether the pixels just outside are unlike those inside."""
        part = self._box(i).grown(EDGE, EDGE, self.image.shape).slices
        own = self.numbers[part] == i + 1
        within = binary_dilation(own, np.ones((3, 3)), iterations=EDGE)
        outside = within & ~binary_dilation(own, np.ones((3, 3)), iterations=EDGE - 1)
        if self.mask is not None:
            outside &= ~self.mask[part]
        if not outside.any():
            return False
        step = np.abs(self.image[part][outside].astype(np.float64) - self.ink)
        return bool(np.quantile(step, 0.25) >= SHARP * self.range)


def _rows(boxes: list[Box]) -> list[list[int]]:
    """Letters that stand in a row: the same height or foot, and less than two letters apart. Two at least."""
    rows: list[list[int]] = []
    for i in sorted(range(len(boxes)), key=lambda i: boxes[i].left):
        for row in rows:
            last, own = boxes[row[-1]], boxes[i]
            size = max(last.height, own.height)
            level = min(abs(last.bottom - own.bottom), abs(last.top - own.top)) <= 0.2 * size
            alike = min(last.height, own.height) >= 0.5 * size
            if level and alike and 0 <= own.left - last.right <= 1.5 * size:
                row.append(i)
                break
        else:
            rows.append([i])
    return [row for row in rows if len(row) > 1]
