"""The inside of a mouth, painted under the light of a photograph. Lengths in shares of the face's height."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import skia
from numpy.typing import NDArray

from ..world.brush import Brush, ellipse, path
from ..world.geometry import Expression
from ..world.identity import Colour
from .controls import GAP
from .light import Light, colour

Floats = NDArray[np.float64]

TEETH_EDGE = 0.021  # how far the upper teeth end below the line of the closed lips
TEETH = (0.044, 0.035, 0.034, 0.026, 0.020)  # seen widths of half a row, from the middle
WIDEST = 0.142  # half width of a mouth that shows them at these widths
CAVITY = ((30, 9, 11), (50, 14, 16), (92, 30, 32))  # from top to bottom
TONGUE, TONGUE_MIDDLE = (124, 50, 50), (182, 90, 86)
LOWER_TEETH, BETWEEN_TEETH = (198, 184, 166), (120, 96, 84)
ENAMEL = np.array([(128, 113, 97), (222, 210, 187), (250, 242, 220)])  # from the last tooth to the middle
UPPER_SHADOW, LOWER_SHADOW = (34, 9, 10), (80, 26, 26)  # of the lips


class Mouth:
    """Paints cavity, tongue, teeth and the shadow of the lips of one person.

    half    half width of the closed mouth; origin and axes are those of its middle
    """

    def __init__(self, light: Light, half: float) -> None:
        self.light, self.half = light, half

    def paint(self, brush: Brush, top: Floats, bottom: Floats, pose: Expression) -> None:
        """Between the inner contours (n, 2), image-left to right; the caller clips to them."""
        box = skia.Path()
        high, low = float(top[:, 1].min()), float(bottom[:, 1].max())
        box.addRect(skia.Rect.MakeLTRB(-0.3, high - 0.02, 0.3, low + 0.02))
        brush.down(box, high, low, [self.light.on(tone) for tone in CAVITY])
        self._paint_tongue(brush, low, 0.5 * float(top[-1, 0] - top[0, 0]), pose)
        self._paint_lower_teeth(brush, bottom, pose)
        self._paint_upper_teeth(brush, high, pose.rounding)
        brush.stroke(path(top, closed=False), self.light.on(UPPER_SHADOW), 0.016, 0.55, 0.006)
        brush.stroke(path(bottom, closed=False), self.light.on(LOWER_SHADOW), 0.012, 0.4, 0.005)
        self._shade_sides(brush, box)

    def _paint_tongue(self, brush: Brush, low: float, wide: float, pose: Expression) -> None:
        rise = 0.020 + 0.36 * GAP * pose.opening + 0.012 * pose.spread
        back = ellipse(0, low + 0.035 - 0.03 * pose.rounding, 0.80 * wide, rise + 0.03)
        brush.fill(back, self.light.on(TONGUE), 0.95, 0.008)
        brush.fill(
            ellipse(0, low + 0.045, 0.52 * wide, rise + 0.024), self.light.on(TONGUE_MIDDLE), 0.8, 0.014
        )

    def _paint_lower_teeth(self, brush: Brush, bottom: Floats, pose: Expression) -> None:
        """Their edge above the lower lip, in mouths that are neither nearly closed nor round."""
        crown = bottom[8:-8] - np.array([0.0, 0.010 + 0.006 * pose.spread])
        crown = crown[np.abs(crown[:, 0]) < 0.62 * self.half]
        if len(crown) > 2:
            seen = float(np.clip((GAP * pose.opening - 0.02) / 0.03, 0, 1)) * (1 - 0.8 * pose.rounding)
            strip = path(np.concatenate([crown, crown[::-1] + np.array([0, 0.05])]))
            brush.fill(strip, self._tooth(np.array(LOWER_TEETH)), 0.7 * seen, 0.004)

    def _paint_upper_teeth(self, brush: Brush, high: float, rounding: float) -> None:
        """Fixed to the skull: the lips move over the row, and round lips hide it."""
        reach = np.concatenate([[0.0], np.cumsum(TEETH)]) * min(self.half / WIDEST, 1.15)
        line, dim = TEETH_EDGE - 0.018 * rounding, 1 - 0.45 * rounding

        def edge(x: float, notch: float = 0.0) -> tuple[float, float]:
            return x, line - 0.024 * (x / self.half) ** 2 - notch

        shape = ((0.03, 0.006), (0.2, 0.0008), (0.5, 0.0), (0.8, 0.0008), (0.97, 0.006))
        right = np.array([edge(a + t * (b - a), notch) for a, b in pairwise(reach) for t, notch in shape])
        roof = np.array([[reach[-1], high - 0.1], [-reach[-1], high - 0.1]])
        row = path(np.concatenate([right[::-1] * (-1, 1), right, roof]))
        self._fill_enamel(brush, row, float(reach[-1]), dim)
        for x in (*reach[:-1], *-reach[1:-1]):
            between = path(np.array([[x, high - 0.02], edge(x)]), closed=False)
            brush.stroke(between, self.light.on(BETWEEN_TEETH), 0.0035, 0.3 * dim, 0.001)

    def _fill_enamel(self, brush: Brush, row: skia.Path, end: float, dim: float) -> None:
        tones = [self._tooth(dim * ENAMEL[k]) for k in (0, 1, 2, 1, 0)]
        colours = [(255 << 24) | (red << 16) | (green << 8) | blue for red, green, blue in tones]
        ends = [skia.Point(-end, 0), skia.Point(end, 0)]
        shader = skia.GradientShader.MakeLinear(ends, colours, [0.0, 0.3, 0.5, 0.7, 1.0])
        soft = skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 0.0022)
        brush.canvas.drawPath(row, skia.Paint(AntiAlias=True, Shader=shader, MaskFilter=soft))

    def _tooth(self, tone: Floats) -> Colour:
        return self.light.on(colour(tone))

    def _shade_sides(self, brush: Brush, box: skia.Path) -> None:
        veil = [round(255 * (1 - side)) << 24 for side in self.light.sides]
        ends = [skia.Point(-self.half, 0), skia.Point(self.half, 0)]
        brush.canvas.drawPath(box, skia.Paint(Shader=skia.GradientShader.MakeLinear(ends, veil)))
