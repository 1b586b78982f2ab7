"""Draws a photographed person in any pose: a warped photograph, eyeballs and mouth behind lids and lips."""

from __future__ import annotations

import numpy as np
import skia
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from ..world.brush import Brush, path
from ..world.geometry import Expression
from .controls import EYES, GAZE, INNER
from .head import Head
from .light import Light
from .mouth import Mouth
from .photograph import MESH, PLAIN, Photograph, Picture, Variation, reframed

Floats = NDArray[np.float64]


def _curve(knots: int, count: int) -> Floats:
    """(count, knots) weights of a smooth curve through `knots` points."""
    return np.asarray(
        CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")(np.linspace(0, knots - 1, count))
    )


LID_CURVE, LIP_CURVE = _curve(9, 25), _curve(11, 41)
GAZE_PROFILE = np.tile([0.0, 0.5, 0.9, 1.0, 1.0, 1.0, 0.9, 0.5, 0.0], 2)[:, None]  # the corners stay
CREASES = ((247, 30, 29, 27, 28, 56, 190), (414, 286, 258, 257, 259, 260, 467))  # above the lids
STRIP = np.array([i for k in range(8) for i in (k, k + 1, k + 9, k + 1, k + 10, k + 9)])


class Puppet:
    """A person of a photograph; holds only what never changes, so poses may come in any order.

    size    side of the square picture in pixels
    """

    def __init__(self, photo: Photograph, size: int, variation: Variation = PLAIN) -> None:
        framed = reframed(photo.flipped() if variation.flip else photo, variation, size)
        framed = Photograph(variation.coloured(framed.image), framed.points)
        self.size = size
        self.margin = 0.5 * (len(framed.image) - size)
        self.light = Light.of(framed)
        self.head = Head(
            framed.points - (self.margin, self.margin, 0), size, variation, not self.light.dark_glasses
        )
        left, right, upper, lower = self.head.face[[78, 308, 13, 14]]
        self._middle = 0.5 * (left + right)
        self._middle[1] = 0.5 * (upper + lower)[1]
        self.mouth = Mouth(self.light, 0.5 * float(right[0] - left[0]))
        self._texels = _listed(self.head.texels + self.margin)
        self._triangles = self.head.triangles.ravel().tolist()
        self._paint = _texture(framed.image)

    def frame(self, pose: Expression) -> Picture:
        """(size, size, 3) RGB."""
        points, outer = self.head.posed(pose)
        pixels = np.zeros((self.size, self.size, 4), np.uint8)
        canvas = skia.Surface(pixels, colorType=skia.kRGBA_8888_ColorType).getCanvas()
        whole = np.concatenate([points[:MESH], outer])
        self._draw_mesh(canvas, whole, self._texels_under(pose), self._triangles)
        if self.head.eyes:
            for eye in (0, 1):
                self._draw_eye(canvas, points, pose, eye)
        if pose.opening > 0:
            self._draw_inside(canvas, points, pose)
        return pixels[..., :3].copy()

    def landmarks(self, pose: Expression) -> NDArray[np.float32]:
        """(478, 2) points of the face mesh in pixels."""
        return self.head.posed(pose)[0].astype(np.float32)

    def _draw_mesh(
        self, canvas: skia.Canvas, to: Floats, texels: list[skia.Point], triangles: list[int]
    ) -> None:
        kind = skia.Vertices.kTriangles_VertexMode
        canvas.drawVertices(skia.Vertices(kind, _listed(to), texels, None, triangles), self._paint)

    def _texels_under(self, pose: Expression) -> list[skia.Point]:
        """Texture points; a closing lid takes its edge from the skin around the eye, not from the eye."""
        if not self.head.eyes or pose.blink <= 0:
            return self._texels
        texels, places = self._texels.copy(), self.head.texels
        for (above, below), _ in EYES:
            tall = float((places[list(below), 1] - places[list(above[1:-1]), 1]).max()) * pose.blink
            for rows, step in ((above[1:-1], -0.20 * tall), (below, 0.28 * tall)):
                for i in rows:
                    texels[i] = texels[i] + skia.Point(0, step)
        return texels

    def _draw_eye(self, canvas: skia.Canvas, points: Floats, pose: Expression, eye: int) -> None:
        """The eyeball, moved by the gaze and cut by the lids; the edge of a lid that closes."""
        (above, below), _ = EYES[eye]
        lid = LID_CURVE @ points[list(above)]
        if pose.blink < 0.97:
            lower = LID_CURVE @ points[[above[0], *below, above[8]]]
            with Brush(canvas).inside(path(np.concatenate([lid, lower[::-1]]))):
                self._draw_ball(canvas, pose, [*above], [*above, *below])
        if pose.blink > 0.5:
            width = 0.010 * self.head.tall
            cover = path(np.concatenate([lid, points[list(CREASES[eye])][::-1]]))
            Brush(canvas).fill(cover, self.light.lids[eye], 1.8 * pose.blink - 0.9, 0.9 * width)
            edge = path(lid, closed=False)
            Brush(canvas).stroke(edge, self.light.lash, width, 1.5 * pose.blink - 0.75, 0.35 * width)

    def _draw_ball(self, canvas: skia.Canvas, pose: Expression, above: list[int], rim: list[int]) -> None:
        """A strip of the photograph between the lids and a little beyond, which they do not move."""

        def strip(face: Floats) -> Floats:
            high, low = face[above].copy(), face[above].copy()
            high[:, 1], low[:, 1] = face[rim, 1].min() - 0.01, face[rim, 1].max() + 0.01
            return np.concatenate([high, low])

        seen, shown = strip(self.head.seen), strip(self.head.face)
        look = GAZE * pose.gaze * (0.5 * (seen[8, 0] - seen[0, 0]))
        texels = self.head.pixels(seen[:, :2] - GAZE_PROFILE * look) + self.margin
        self._draw_mesh(canvas, self.head.rigid(shown, pose), _listed(texels), STRIP.tolist())

    def _draw_inside(self, canvas: skia.Canvas, points: Floats, pose: Expression) -> None:
        """What shows between the inner lips, in the frame of the closed mouth's middle."""
        top, bottom = (LIP_CURVE @ points[list(contour)] for contour in INNER)
        origin, across, down = self.head.rigid(
            self._middle + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), pose
        )
        axes = np.column_stack([across - origin, down - origin])
        back = np.linalg.inv(axes).T
        brush = Brush(canvas)
        shape = path(np.concatenate([top, bottom[::-1]]))
        with brush.inside(shape), brush.mapped(np.column_stack([axes, origin])):
            self.mouth.paint(brush, (top - origin) @ back, (bottom - origin) @ back, pose)


def _texture(image: Picture) -> skia.Paint:
    """Paints with a picture; vertices say where of it."""
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    texture = skia.Image.fromarray(opaque, skia.kRGBA_8888_ColorType)
    tile = skia.TileMode.kClamp
    shader = texture.makeShader(tile, tile, skia.SamplingOptions(skia.FilterMode.kLinear))
    return skia.Paint(Shader=shader)


def _listed(points: Floats) -> list[skia.Point]:
    return [skia.Point(x, y) for x, y in points.tolist()]
