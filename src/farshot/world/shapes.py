"""Things: signed distance functions over unit coordinates, negative inside.

x grows to the right and y downwards, a thing fills about [-1, 1] x [-1, 1], upright. Distances need only be
right near the outline, which is all that drawing uses.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Field = Float[ndarray, "..."]
SHAPES: dict[str, Callable[[Field, Field], Field]] = {}


def shape(draw: Callable[[Field, Field], Field]) -> Callable[[Field, Field], Field]:
    SHAPES[draw.__name__] = draw
    return draw


def circle(x: Field, y: Field, cx: float, cy: float, radius: float) -> Field:
    return np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius


def ellipse(x: Field, y: Field, cx: float, cy: float, a: float, b: float) -> Field:
    return (np.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2) - 1) * min(a, b)


def ring(x: Field, y: Field, cx: float, cy: float, radius: float, half: float) -> Field:
    return np.abs(circle(x, y, cx, cy, radius)) - half


def box(x: Field, y: Field, cx: float, cy: float, half_x: float, half_y: float) -> Field:
    return np.maximum(np.abs(x - cx) - half_x, np.abs(y - cy) - half_y)


def polygon(x: Field, y: Field, *corners: tuple[float, float]) -> Field:
    """A convex polygon, corners clockwise as seen on the screen."""
    inside = None
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
        nx, ny = (by - ay) / length, (ax - bx) / length
        side = nx * x + ny * y - (nx * ax + ny * ay)
        inside = side if inside is None else np.maximum(inside, side)
    assert inside is not None
    return inside


def fold(t: Field, period: float) -> Field:
    """Distance to the nearest multiple of the period."""
    return np.abs(t - period * np.floor(t / period + 0.5))


def union(*parts: Field) -> Field:
    out = parts[0]
    for part in parts[1:]:
        out = np.minimum(out, part)
    return out


def cut(body: Field, *holes: Field) -> Field:
    for hole in holes:
        body = np.maximum(body, -hole)
    return body


def polar(x: Field, y: Field) -> tuple[Field, Field]:
    """Radius, and angle from straight up in radians."""
    return np.sqrt(x * x + y * y), np.arctan2(x, -y)


@shape
def star(x: Field, y: Field) -> Field:
    radius, angle = polar(x, y)
    angle = fold(angle, 2 * np.pi / 5)
    return 0.56 * (radius * np.cos(angle) - 1) + 0.83 * radius * np.sin(angle) + 0.02


@shape
def heart(x: Field, y: Field) -> Field:
    side = np.abs(x)
    return union(circle(side, y, 0.44, -0.35, 0.5), polygon(x, y, (-0.88, -0.12), (0.88, -0.12), (0.0, 0.95)))


@shape
def moon(x: Field, y: Field) -> Field:
    return cut(circle(x, y, 0, 0, 0.92), circle(x, y, 0.45, -0.1, 0.78))


@shape
def arrow(x: Field, y: Field) -> Field:
    return union(box(x, y, -0.35, 0, 0.6, 0.17), polygon(x, y, (0.1, -0.65), (0.98, 0.0), (0.1, 0.65)))


@shape
def key(x: Field, y: Field) -> Field:
    teeth = union(box(x, y, 0.55, 0.25, 0.09, 0.25), box(x, y, 0.86, 0.22, 0.09, 0.22))
    return union(ring(x, y, -0.55, 0, 0.32, 0.13), box(x, y, 0.36, 0, 0.6, 0.1), teeth)


@shape
def cup(x: Field, y: Field) -> Field:
    body = polygon(x, y, (-0.8, -0.7), (0.4, -0.7), (0.25, 0.8), (-0.65, 0.8))
    return union(body, ring(x, y, 0.48, -0.02, 0.36, 0.1))


@shape
def bottle(x: Field, y: Field) -> Field:
    return union(box(x, y, 0, 0.4, 0.36, 0.58), box(x, y, 0, -0.6, 0.13, 0.36), circle(x, y, 0, -0.15, 0.34))


@shape
def house(x: Field, y: Field) -> Field:
    walls = cut(
        box(x, y, 0, 0.4, 0.65, 0.55), box(x, y, -0.2, 0.65, 0.15, 0.32), box(x, y, 0.32, 0.3, 0.15, 0.15)
    )
    return union(walls, polygon(x, y, (-0.95, -0.12), (0.0, -0.95), (0.95, -0.12)))


@shape
def tree(x: Field, y: Field) -> Field:
    crown = union(circle(x, y, 0, -0.45, 0.5), circle(np.abs(x), y, 0.38, -0.02, 0.4))
    return union(crown, box(x, y, 0, 0.65, 0.13, 0.35))


@shape
def fish(x: Field, y: Field) -> Field:
    body = cut(ellipse(x, y, -0.2, 0, 0.75, 0.42), circle(x, y, -0.6, -0.08, 0.1))
    return union(body, polygon(x, y, (0.95, -0.5), (0.95, 0.5), (0.3, 0.0)))


@shape
def flower(x: Field, y: Field) -> Field:
    radius, angle = polar(x, y)
    petals = radius - 0.66 - 0.3 * np.cos(6 * angle)
    return cut(petals * 0.6, np.abs(radius - 0.28) - 0.07)


@shape
def leaf(x: Field, y: Field) -> Field:
    blade = cut(circle(np.abs(x), y, -0.55, -0.1, 1.05), box(x, y, 0, 0.15, 0.045, 0.75))
    return union(blade, box(x, y, 0, 0.85, 0.07, 0.2))


@shape
def mushroom(x: Field, y: Field) -> Field:
    cap = np.maximum(circle(x, y, 0, 0.05, 0.9), y - 0.05)
    cap = cut(cap, circle(np.abs(x), y, 0.42, -0.25, 0.14), circle(x, y, 0, -0.52, 0.14))
    return union(cap, box(x, y, 0, 0.45, 0.24, 0.5))


@shape
def ladder(x: Field, y: Field) -> Field:
    rungs = np.maximum(fold(y, 0.42) - 0.07, box(x, y, 0, 0, 0.45, 0.85))
    return union(box(np.abs(x), y, 0.45, 0, 0.1, 0.97), rungs)


@shape
def wheel(x: Field, y: Field) -> Field:
    radius, angle = polar(x, y)
    spokes = np.maximum(radius - 0.8, radius * np.sin(fold(angle, np.pi / 3)) - 0.07)
    return union(np.abs(radius - 0.8) - 0.14, radius - 0.22, spokes)


@shape
def sun(x: Field, y: Field) -> Field:
    radius, angle = polar(x, y)
    rays = np.maximum(np.abs(radius - 0.8) - 0.2, radius * np.sin(fold(angle, np.pi / 4)) - 0.09)
    return union(radius - 0.47, rays)


@shape
def cloud(x: Field, y: Field) -> Field:
    side = circle(np.abs(x), y, 0.52, 0.12, 0.38)
    return union(side, circle(x, y, -0.05, -0.15, 0.5), box(x, y, 0, 0.3, 0.55, 0.2))


@shape
def lightning(x: Field, y: Field) -> Field:
    upper = polygon(x, y, (0.05, -1.0), (0.5, -1.0), (0.1, 0.05), (-0.45, 0.15))
    return union(upper, polygon(x, y, (-0.2, -0.12), (0.45, -0.22), (-0.3, 1.0)))


@shape
def umbrella(x: Field, y: Field) -> Field:
    roof = cut(
        np.maximum(circle(x, y, 0, 0.05, 0.95), y - 0.05), ellipse(fold(x, 0.62), y, 0, 0.1, 0.26, 0.16)
    )
    hook = np.maximum(ring(x, y, 0.17, 0.7, 0.17, 0.07), 0.7 - y)
    return union(roof, box(x, y, 0, 0.3, 0.07, 0.42), hook)


@shape
def hammer(x: Field, y: Field) -> Field:
    head = union(box(x, y, -0.2, -0.6, 0.4, 0.24), polygon(x, y, (0.15, -0.84), (0.9, -0.3), (0.15, -0.45)))
    return union(head, box(x, y, -0.1, 0.2, 0.12, 0.78))


@shape
def flag(x: Field, y: Field) -> Field:
    wavy = y + 0.14 * np.sin(5 * x)
    return union(box(x, y, -0.65, 0, 0.08, 0.98), box(x, wavy, 0.12, -0.45, 0.75, 0.38))


@shape
def boat(x: Field, y: Field) -> Field:
    hull = polygon(x, y, (-0.95, 0.35), (0.95, 0.35), (0.55, 0.85), (-0.55, 0.85))
    sails = union(
        polygon(x, y, (0.12, -0.95), (0.8, 0.2), (0.12, 0.2)),
        polygon(x, y, (-0.12, -0.7), (-0.12, 0.2), (-0.65, 0.2)),
    )
    return union(hull, sails, box(x, y, 0, -0.25, 0.05, 0.7))


@shape
def car(x: Field, y: Field) -> Field:
    body = union(
        box(x, y, 0, 0.15, 0.97, 0.3), polygon(x, y, (-0.4, -0.55), (0.3, -0.55), (0.62, -0.1), (-0.62, -0.1))
    )
    side = np.abs(x)
    body = cut(body, circle(side, y, 0.52, 0.42, 0.32), box(x, y, -0.05, -0.3, 0.25, 0.12))
    return union(body, circle(side, y, 0.52, 0.45, 0.22))


@shape
def butterfly(x: Field, y: Field) -> Field:
    side = np.abs(x)
    wings = union(circle(side, y, 0.52, -0.35, 0.45), circle(side, y, 0.42, 0.42, 0.35))
    feelers = np.maximum(np.abs(side - 0.35 * (-0.5 - y)) - 0.05, box(x, y, 0, -0.7, 0.4, 0.25))
    return union(cut(wings, circle(side, y, 0.52, -0.35, 0.16)), ellipse(x, y, 0, 0.1, 0.1, 0.75), feelers)


@shape
def snowman(x: Field, y: Field) -> Field:
    arms = np.maximum(np.abs(y + 0.15 + 0.5 * (np.abs(x) - 0.3)) - 0.05, np.abs(x) - 0.85)
    balls = union(circle(x, y, 0, 0.52, 0.45), circle(x, y, 0, -0.12, 0.32), circle(x, y, 0, -0.55, 0.22))
    return union(balls, arms, box(x, y, 0, -0.76, 0.32, 0.05), box(x, y, 0, -0.9, 0.19, 0.15))


@shape
def hourglass(x: Field, y: Field) -> Field:
    height = np.abs(y)
    glass = np.maximum((np.abs(x) - 0.06 - 0.7 * height) * 0.8, height - 0.8)
    return union(glass, box(x, height, 0, 0.88, 0.72, 0.09))


@shape
def chair(x: Field, y: Field) -> Field:
    legs = union(box(x, y, -0.45, 0.2, 0.09, 0.78), box(x, y, 0.48, 0.6, 0.09, 0.38))
    return union(legs, box(x, y, 0.02, 0.2, 0.55, 0.1), box(x, y, -0.45, -0.4, 0.09, 0.58))


@shape
def glasses(x: Field, y: Field) -> Field:
    side = np.abs(x)
    frame = union(ring(side, y, 0.5, 0.1, 0.36, 0.1), box(x, y, 0, 0, 0.18, 0.08))
    return union(frame, polygon(side, y, (0.92, -0.5), (1.0, -0.4), (0.9, 0.1), (0.78, 0.0)))


@shape
def anchor(x: Field, y: Field) -> Field:
    arms = np.maximum(ring(x, y, 0, 0.15, 0.66, 0.11), 0.2 - y)
    tips = polygon(np.abs(x), y, (0.66, 0.0), (0.95, 0.4), (0.4, 0.4))
    bars = union(box(x, y, 0, 0.1, 0.09, 0.75), box(x, y, 0, -0.35, 0.42, 0.08))
    return union(ring(x, y, 0, -0.76, 0.16, 0.07), bars, arms, tips)


@shape
def rocket(x: Field, y: Field) -> Field:
    side = np.abs(x)
    body = cut(ellipse(x, y, 0, -0.15, 0.34, 0.82), circle(x, y, 0, -0.3, 0.14))
    fins = polygon(side, y, (0.2, 0.1), (0.7, 0.8), (0.2, 0.55))
    return union(body, fins, polygon(x, y, (-0.15, 0.7), (0.15, 0.7), (0.0, 1.0)))


@shape
def comb(x: Field, y: Field) -> Field:
    teeth = np.maximum(fold(x, 0.3) - 0.08, box(x, y, 0, 0.15, 0.98, 0.6))
    return union(box(x, y, 0, -0.5, 0.98, 0.2), teeth)


@shape
def fork(x: Field, y: Field) -> Field:
    tines = union(box(np.abs(x), y, 0.32, -0.55, 0.08, 0.4), box(x, y, 0, -0.55, 0.08, 0.4))
    return union(tines, box(x, y, 0, -0.1, 0.4, 0.13), box(x, y, 0, 0.5, 0.1, 0.48))
