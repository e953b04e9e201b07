"""Line charts as SVG, with logarithmic axes and every line named at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle

_WIDTH, _HEIGHT = 880, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 330, 78, 52
_OURS = ("#0b6e4f", "#2a9d8f", "#1d7fa3", "#5aa469")
_OTHERS = ("#c8553d", "#b8860b", "#7b4b94", "#a23b72", "#5b6770", "#8a5a44")
_INK, _FAINT, _RULE = "#1f2933", "#5b6770", "#e4e7eb"
_LABEL_GAP = 17.0


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y), both above zero; ``is_ours`` draws it thicker."""

    name: str
    points: Sequence[tuple[float, float]]
    is_ours: bool = False


def chart(
    title: str,
    subtitle: str,
    lines: Sequence[Line],
    *,
    x_title: str,
    y_text: Callable[[float], str],
) -> str:
    """A whole SVG file. Ticks on x are at the points, on y at powers of ten; ``y_text`` writes a value."""
    lines = [line for line in lines if line.points]
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    x_scale = _scale(xs[0], xs[-1], _LEFT, _WIDTH - _RIGHT)
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))
    y_scale = _scale(low, max(high, low * 10), _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
        _text(24, 32, title, size=17, weight=600),
        _text(24, 53, subtitle, size=12.5, colour=_FAINT),
        *_y_axis(low, max(high, low * 10), y_scale, y_text),
        *(part for x in xs for part in _x_tick(x_scale(x), f"{x:g}")),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, x_title, anchor="middle", colour=_FAINT),
    ]
    labels = []
    ours, others = cycle(_OURS), cycle(_OTHERS)
    for line in lines:
        colour = next(ours if line.is_ours else others)
        places = [(x_scale(x), y_scale(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        width = 3.2 if line.is_ours else 1.8
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        radius = 4 if line.is_ours else 3
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in places]
        labels.append((places[-1][1], places[-1][0], line.name, y_text(line.points[-1][1]), colour, line.is_ours))
    parts += _labels(labels)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log10(high / low) or 1.0
    return lambda value: start + (end - start) * math.log10(value / low) / span


def _y_axis(low: float, high: float, scale: Callable[[float], float], text: Callable[[float], str]) -> Iterator[str]:
    value = low
    while value <= high * 1.001:
        y = scale(value)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_RULE}"/>'
        yield _text(_LEFT - 10, y + 4, text(value), anchor="end", colour=_FAINT)
        value *= 10


def _x_tick(x: float, text: str) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="{_FAINT}"/>'
    yield _text(x, bottom + 19, text, anchor="middle", colour=_FAINT)


def _labels(labels: Sequence[tuple[float, float, str, str, str, bool]]) -> Iterator[str]:
    """The lines' names beside their ends, moved apart where they would overlap."""
    below = -_LABEL_GAP
    for y, x, name, value, colour, is_ours in sorted(labels):
        place = max(y + 4, below + _LABEL_GAP)
        below = place
        weight = 600 if is_ours else 400
        yield _text(x + 10, place, f"{name}: {value}", colour=colour, size=12, weight=weight)


def _text(
    x: float, y: float, text: str, *, size: float = 12, anchor: str = "start", colour: str = _INK, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
