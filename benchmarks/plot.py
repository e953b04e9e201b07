"""Line charts as SVG, with logarithmic axes, and each line's name and last value beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle

_WIDTH, _HEIGHT = 880, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 330, 78, 52
_OURS = ("#0b6e4f", "#2a9d8f", "#1d7fa3", "#5aa469")
_OTHERS = ("#c8553d", "#b8860b", "#7b4b94", "#a23b72", "#3d5a98", "#8a5a44")
_FLOORS = ("#5b6770", "#7b8794")
_INK, _FAINT, _RULE = "#1f2933", "#5b6770", "#e4e7eb"
_LABEL_GAP = 17.0


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y), both above zero. ``is_ours`` draws it thicker, ``is_floor`` grey and dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    is_ours: bool = False
    is_floor: bool = False


@dataclass(frozen=True, slots=True)
class _Label:
    """What is said of a line that ends at (x, y) on the page."""

    x: float
    y: float
    text: str
    colour: str
    is_ours: bool


def chart(
    title: str,
    subtitle: str,
    lines: Sequence[Line],
    *,
    x_title: str,
    y_text: Callable[[float], str],
) -> str:
    """A whole SVG file. Ticks on x are at the points, on y at round numbers, which ``y_text`` formats."""
    lines = [line for line in lines if line.points]
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    x_scale = _scale(xs[0], xs[-1], _LEFT, _WIDTH - _RIGHT)
    low, high = _around(min(ys), max(ys))
    y_scale = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
        _text(24, 32, title, size=17, weight=600),
        _text(24, 53, subtitle, size=12.5, colour=_FAINT),
        *_y_axis(low, high, y_scale, y_text),
        *(part for x in xs for part in _x_tick(x_scale(x), f"{x:g}")),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, x_title, anchor="middle", colour=_FAINT),
    ]
    labels: list[_Label] = []
    ours, others, floors = cycle(_OURS), cycle(_OTHERS), cycle(_FLOORS)
    for line in lines:
        colour = next(ours if line.is_ours else floors if line.is_floor else others)
        places = [(x_scale(x), y_scale(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        width = 3.2 if line.is_ours else 1.8
        dashes = ' stroke-dasharray="5 4"' if line.is_floor else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')
        radius = 4 if line.is_ours else 3
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in places]
        last_x, last_y = line.points[-1]
        at = "" if last_x == xs[-1] else f" at {last_x:g}"
        labels.append(_Label(*places[-1], f"{line.name}: {y_text(last_y)}{at}", colour, line.is_ours))
    parts += _labelled(labels)
    return "\n".join([*parts, "</svg>"]) + "\n"


_STEPS = (1, 2, 5)
_ZEROS = re.compile(r"\.0+(?!\d)")


def _around(least: float, most: float) -> tuple[float, float]:
    """The nearest ticks below and above all values."""
    ticks = _ticks(10 ** math.floor(math.log10(least)), most * 10)
    return max(tick for tick in ticks if tick <= least), min(tick for tick in ticks if tick >= most * 1.0001)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 …, or the like, from a power of ten at or below the lowest value."""
    first = math.floor(math.log10(low))
    powers = range(first, math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in _STEPS]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log10(high / low) or 1.0
    return lambda value: start + (end - start) * math.log10(value / low) / span


def _y_axis(low: float, high: float, scale: Callable[[float], float], text: Callable[[float], str]) -> Iterator[str]:
    within = [value for value in _ticks(low, high) if low * 0.999 <= value <= high * 1.001]
    if high / low > 200:  # then these would be too many
        within = [value for value in within if math.log10(value) % 1 < 1e-6]
    for value in within:
        y = scale(value)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_RULE}"/>'
        yield _text(_LEFT - 10, y + 4, _ZEROS.sub("", text(value)), anchor="end", colour=_FAINT)


def _x_tick(x: float, text: str) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="{_FAINT}"/>'
    yield _text(x, bottom + 19, text, anchor="middle", colour=_FAINT)


def _labelled(labels: Iterable[_Label]) -> Iterator[str]:
    """The labels in a column beside the chart, moved apart where they would overlap."""
    edge, below = _WIDTH - _RIGHT, -_LABEL_GAP
    for label in sorted(labels, key=lambda label: label.y):
        place = below = max(label.y + 4, below + _LABEL_GAP)
        if label.x < edge:  # the line ends within the chart
            yield (
                f'<line x1="{label.x:.1f}" y1="{label.y:.1f}" x2="{edge + 6}" y2="{place - 4:.1f}" '
                f'stroke="{label.colour}" stroke-width="0.8" stroke-dasharray="1 3"/>'
            )
        weight = 600 if label.is_ours else 400
        yield _text(edge + 10, place, label.text, colour=label.colour, size=12, weight=weight)


def _text(
    x: float, y: float, text: str, *, size: float = 12, anchor: str = "start", colour: str = _INK, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
