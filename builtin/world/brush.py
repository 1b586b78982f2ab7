"""Thin layer over Skia: polylines in, antialiased fills, strokes, gradients and soft shadows out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import skia

from .geometry import Points
from .identity import Colour


def path(points: Points, closed: bool = True) -> skia.Path:
    """A polygon or polyline through (n, 2) points."""
    shape = skia.Path()
    shape.addPoly([skia.Point(x, y) for x, y in points.tolist()], closed)
    return shape


def ellipse(x: float, y: float, rx: float, ry: float) -> skia.Path:
    """An ellipse about (x, y)."""
    shape = skia.Path()
    shape.addOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))
    return shape


def joined(*edges: Points) -> skia.Path:
    """The region between two or more polylines that run in alternating directions."""
    return path(np.concatenate(edges))


class Brush:
    """Draws on a Skia canvas; colours are RGB 0..255, `alpha` 0..1, lengths in the canvas's units."""

    def __init__(self, canvas: skia.Canvas) -> None:
        self.canvas = canvas

    def fill(self, shape: skia.Path, colour: Colour, alpha: float = 1.0, blur: float = 0.0) -> None:
        """Fill, softened by a Gaussian of standard deviation `blur`."""
        self.canvas.drawPath(shape, _paint(colour, alpha, blur))

    def stroke(
        self, shape: skia.Path, colour: Colour, width: float, alpha: float = 1.0, blur: float = 0.0
    ) -> None:
        """Stroke with round ends."""
        paint = _paint(colour, alpha, blur)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
        self.canvas.drawPath(shape, paint)

    def down(self, shape: skia.Path, top: float, bottom: float, colours: Sequence[Colour]) -> None:
        """Fill with a gradient from `top` to `bottom`."""
        ends = [skia.Point(50, top), skia.Point(50, bottom)]
        self._shade(shape, skia.GradientShader.MakeLinear(ends, [_argb(c, 1.0) for c in colours]))

    def glow(
        self,
        shape: skia.Path,
        centre: tuple[float, float],
        radius: float,
        colours: Sequence[Colour],
        alphas: Sequence[float] | None = None,
        stops: Sequence[float] | None = None,
    ) -> None:
        """Fill with a gradient from a centre outwards."""
        shares = alphas or [1.0] * len(colours)
        tones = [_argb(c, a) for c, a in zip(colours, shares, strict=True)]
        places = list(stops) if stops else None
        if places is None:
            shader = skia.GradientShader.MakeRadial(skia.Point(*centre), radius, tones)
        else:
            shader = skia.GradientShader.MakeRadial(skia.Point(*centre), radius, tones, places)
        self._shade(shape, shader)

    def _shade(self, shape: skia.Path, shader: skia.Shader) -> None:
        self.canvas.drawPath(shape, skia.Paint(AntiAlias=True, Shader=shader))

    @contextmanager
    def inside(self, shape: skia.Path) -> Iterator[None]:
        """Draw only inside a shape."""
        self.canvas.save()
        self.canvas.clipPath(shape, skia.ClipOp.kIntersect, True)
        yield
        self.canvas.restore()

    @contextmanager
    def moved(self, dx: float, dy: float) -> Iterator[None]:
        """Draw shifted."""
        self.canvas.save()
        self.canvas.translate(dx, dy)
        yield
        self.canvas.restore()

    @contextmanager
    def mapped(self, matrix: Points) -> Iterator[None]:
        """Draw under a (2, 3) affine map."""
        self.canvas.save()
        (a, b, c), (d, e, f) = matrix.tolist()
        self.canvas.concat(skia.Matrix.MakeAll(a, b, c, d, e, f, 0, 0, 1))
        yield
        self.canvas.restore()


def _argb(colour: Colour, alpha: float) -> int:
    red, green, blue = colour
    return (round(255 * alpha) << 24) | (red << 16) | (green << 8) | blue


def _paint(colour: Colour, alpha: float, blur: float) -> skia.Paint:
    paint = skia.Paint(AntiAlias=True, Color=_argb(colour, alpha))
    if blur > 0:
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return paint
