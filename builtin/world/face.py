"""The portrait painter: background, body, head, in that order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import skia
from numpy.typing import NDArray

from .body import paint_backdrop, paint_body
from .brush import Brush, ellipse, joined, path
from .features import paint_brows, paint_cheeks, paint_eyes, paint_mouth, paint_nose
from .geometry import (
    Expression,
    Points,
    dropped,
    frame_matrix,
    head_matrix,
    lips,
    outline,
    parallax,
    shifted,
    spline,
)
from .hair import Hair, paint_back, paint_front, paint_shadow
from .identity import Identity, glowing, lit, shaded
from .landmarks import landmarks

BODY_SHARE = 0.3  # how much of the head's shift the shoulders follow


class Painter:
    """Draws one person at one size; holds only what never changes, so frames may come in any order."""

    def __init__(self, identity: Identity, size: int) -> None:
        self.identity = identity
        self.size = size
        self._outline = outline(identity.shape)
        self._hair = Hair.of(identity)
        self._backdrop = self._draw(self._paint_backdrop)

    def frame(self, face: Expression) -> NDArray[np.uint8]:
        """(size, size, 3) RGB."""
        return self._draw(lambda brush: self._paint(brush, face), self._backdrop)[..., :3].copy()

    def landmarks(self, face: Expression) -> NDArray[np.float32]:
        """(478, 2) points of MediaPipe's face mesh in pixels."""
        return landmarks(self.identity, face, self.size).astype(np.float32)

    def _draw(
        self, paint: Callable[[Brush], None], start: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """(size, size, 4) RGBA of what `paint` draws over `start`."""
        blank = np.zeros((self.size, self.size, 4), np.uint8)
        pixels = blank if start is None else start.copy()
        canvas = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType).getCanvas()
        canvas.scale(self.size / 100.0, self.size / 100.0)
        paint(Brush(canvas))
        return pixels

    def _paint_backdrop(self, brush: Brush) -> None:
        paint_backdrop(brush, self.identity)

    def _paint(self, brush: Brush, face: Expression) -> None:
        identity = self.identity
        contour = dropped(self._outline, identity.shape, face.opening)
        head = head_matrix(identity, face)
        with brush.mapped(head), brush.moved(*parallax(face, -0.35)):
            paint_back(brush, self._hair, identity)
        with brush.mapped(frame_matrix(identity)):
            dx, dy = (BODY_SHARE * v for v in face.shift)
            with brush.moved(dx, dy):
                paint_body(brush, identity, contour, (face.shift[0] - dx, face.shift[1] - dy))
        with brush.mapped(head):
            self._paint_head(brush, contour, face)

    def _paint_head(self, brush: Brush, contour: Points, face: Expression) -> None:
        identity = self.identity
        self._paint_ears(brush, face)
        shape = path(contour)
        tones = [glowing(identity.skin, 0.75), identity.skin, shaded(identity.skin, 0.26)]
        brush.glow(shape, (44.0, 44.0), 50.0, tones, stops=[0.0, 0.55, 1.0])
        with brush.inside(shape):
            brush.stroke(path(shifted(contour, 1.4, 0.6)), shaded(identity.skin, 0.55), 4.5, 0.28, 2.0)
            brush.stroke(path(shifted(contour, 1.8, 1.4)), glowing(identity.skin, 1.0), 2.0, 0.5, 1.0)
            with brush.moved(*parallax(face, 0.5)):
                paint_cheeks(brush, identity, face)
                self._paint_beard(brush, contour, face)
            with brush.moved(*parallax(face, 0.2)):
                paint_shadow(brush, self._hair, identity)
        brush.stroke(shape, shaded(identity.skin, 0.8), 0.6, 0.85)
        paint_nose(brush, identity, face)
        paint_mouth(brush, identity, face)
        if identity.beard == "moustache":
            self._paint_moustache(brush, face)
        paint_eyes(brush, identity, face)
        with brush.moved(*parallax(face, 0.2)):
            paint_front(brush, self._hair, identity)
        paint_brows(brush, identity, face)
        if identity.glasses != "none":
            with brush.moved(*parallax(face, 0.75)):
                self._paint_glasses(brush)

    def _paint_ears(self, brush: Brush, face: Expression) -> None:
        identity = self.identity
        dark = shaded(identity.skin, 0.8)
        for side in (-1.0, 1.0):
            x, y = 50.0 + side * (identity.shape.cheek + 0.6), 53.5
            with brush.moved(*parallax(face, -0.3)):
                ear = ellipse(x, y, 3.6, 5.6)
                brush.fill(ear, shaded(identity.skin, 0.10 if side < 0 else 0.22))
                brush.stroke(ear, dark, 0.6, 0.85)
                inner = [(x + side * 0.9, y - 3.2), (x + side * 1.6, y - 0.5), (x + side * 0.2, y + 1.4)]
                brush.stroke(path(spline(inner, 10), closed=False), dark, 0.6, 0.55)
                if identity.earrings:
                    brush.fill(ellipse(x + side * 0.4, y + 6.6, 1.3, 1.3), (244, 200, 96))
                    brush.fill(ellipse(x + side * 0.1, y + 6.2, 0.45, 0.45), (255, 246, 210))

    def _paint_beard(self, brush: Brush, contour: Points, face: Expression) -> None:
        """Beard or stubble; call inside the face."""
        identity = self.identity
        if identity.beard not in ("beard", "stubble"):
            return
        mouth = lips(identity.mouth, face)
        strong = identity.beard == "beard"
        left, right = contour[contour[:, 1] > 57.0][[-1, 0]]
        top = mouth.upper_outer[20, 1] - 3.2
        upper = spline(
            [
                (float(right[0]) + 1, 57.0),
                (float(right[0]) - 3.5, 62.5),
                (62.0, top - 0.6),
                (50.0, top - 0.2),
                (38.0, top - 0.6),
                (float(left[0]) + 3.5, 62.5),
                (float(left[0]) - 1, 57.0),
            ],
            40,
        )
        low = np.array([[float(left[0]) - 4, 96.0], [float(right[0]) + 4, 96.0]])
        region = joined(upper, low)
        if strong:
            brush.fill(region, shaded(identity.hair, 0.18), 0.96, 0.35)
            brush.fill(ellipse(50, 88, 20, 7), shaded(identity.hair, 0.6), 0.4, 2.5)
        else:
            brush.fill(region, shaded(identity.hair, 0.4), 0.24, 1.6)

    def _paint_moustache(self, brush: Brush, face: Expression) -> None:
        mouth = lips(self.identity.mouth, face)
        x, y = 50.0, float(mouth.upper_outer[20, 1]) - 0.3
        upper = [(x - 9.4, y + 0.5), (x - 7.0, y - 0.9), (x - 3.0, y - 2.5), (x, y - 1.9)]
        lower = [(x, y + 0.1), (x - 3.5, y + 0.1), (x - 6.5, y + 0.7), (x - 9.4, y + 0.5)]
        half = np.concatenate([spline(upper, 14), spline(lower, 14)])
        with brush.moved(*parallax(face, 0.75)):
            for points in (half, np.stack([100.0 - half[:, 0], half[:, 1]], axis=1)):
                brush.fill(path(points), shaded(self.identity.hair, 0.2))
                brush.stroke(
                    path(shifted(points[2:12], 0.0, 0.5), closed=False),
                    lit(self.identity.hair, 0.4),
                    0.4,
                    0.5,
                )

    def _paint_glasses(self, brush: Brush) -> None:
        eyes = self.identity.eyes
        colour = shaded(self.identity.accent, 0.55) if sum(self.identity.accent) > 300 else (52, 44, 52)
        radius = eyes.width + 2.2
        for side in (-1.0, 1.0):
            x = 50.0 + side * eyes.apart
            if self.identity.glasses == "round":
                lens = ellipse(x, eyes.y + 0.3, radius, radius)
            else:
                lens = skia.Path()
                box = skia.Rect.MakeLTRB(x - radius, eyes.y - 5.6, x + radius, eyes.y + 6.2)
                lens.addRoundRect(box, 2.6, 2.6)
            brush.fill(lens, (255, 255, 255), 0.12)
            brush.stroke(lens, colour, 1.05)
            glint = np.array([[x - 0.55 * radius, eyes.y - 2.2], [x - 0.2 * radius, eyes.y - 4.2]])
            brush.stroke(path(glint, closed=False), (255, 255, 255), 0.7, 0.6)
            arm = np.array(
                [[x + side * radius, eyes.y - 1.0], [50 + side * (self.identity.shape.cheek + 1), eyes.y]]
            )
            brush.stroke(path(arm, closed=False), colour, 1.0)
        bridge = [
            (50 - eyes.apart + radius, eyes.y - 0.6),
            (50.0, eyes.y - 1.8),
            (50 + eyes.apart - radius, eyes.y - 0.6),
        ]
        brush.stroke(path(spline(bridge, 10), closed=False), colour, 1.0)
