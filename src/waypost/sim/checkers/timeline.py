"""A history as a picture: one self-contained HTML page, an SVG and nothing to fetch.

A lane for each client, a bar from call to return for each operation, after porcupine's pictures.
What cannot be is red; the numbers are the longest order that a checker found.  Times are drawn by
rank, not to scale, so that a burst of operations is as readable as a lull; the real times are in
the words that hovering shows.  What never came back fades out to the right.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import msgspec

from waypost.sim.checkers.history import Ns, Operation, Verdict, text

_STEP: Final = 14
_LANE: Final = 30
_BAR: Final = 22
_LEFT: Final = 110
_TOP: Final = 40
_LABEL_CHARS_MAX: Final = 40
_NUMBER_CHARS: Final = 5
_PIXELS_PER_CHAR: Final = 6.8

_STYLE: Final = """
body { font: 14px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }
h1 { font-size: 1.2em; } .why { white-space: pre-wrap; max-width: 70em; }
.frame { overflow-x: auto; border: 1px solid #ddd; } svg { display: block; }
text { font: 11px ui-monospace, monospace; fill: #222; pointer-events: none; }
text.lane { font-weight: bold; } text.mark { fill: #96500a; }
rect { stroke: #0003; } .read { fill: #cfe3f7; } .write { fill: #d5efd0; }
.open { fill: url(#fade); } .culprit { fill: #f7b3ad; stroke: #c00; stroke-width: 2; }
line.lane { stroke: #eee; } line.mark { stroke: #d98b2b; stroke-dasharray: 4 3; }
g:hover rect { stroke: #000; stroke-width: 2; }
"""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Something that happened beside the operations: a crash, a new leader."""

    at: Ns
    what: str


def draw(
    title: str,
    operations: Sequence[Operation],
    verdict: Verdict | None = None,
    marks: Iterable[Mark] = (),
) -> str:
    """Draw a page of a history; a few hundred operations are still readable."""
    marks = sorted(marks, key=lambda mark: mark.at)
    at = _columns(operations, marks)
    lanes, height = _lanes(operations)
    ends = [at[op.call] + _label_width(op) for op in operations]
    width = max([*at.values(), *ends, 400]) + _STEP
    parts = [*_lane_lines(lanes, height, width)]
    parts += [_mark_line(mark, at[mark.at], height) for mark in marks]
    judged = Verdict("ok") if verdict is None else verdict
    culprits = {id_of(op) for op in judged.culprits}
    order = {id_of(op): n for n, op in enumerate(judged.order, 1)}
    places = _places(operations)
    for op in operations:
        lane, row = places[id_of(op)]
        y = lanes[lane][0] + row * _LANE
        end = width - 10 if op.back is None else at[op.back]
        parts.append(_bar(op, at[op.call], end, y, id_of(op) in culprits, order.get(id_of(op))))
    said = "" if verdict is None else f"<p class=why><b>{verdict.outcome}</b> {escape(verdict.why)}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{said}"
        f"<p>{len(operations)} operations. Blue reads, green writes, red cannot be; a number is "
        "the place in the longest order found. Hover for times."
        f'<div class=frame><svg width="{width}" height="{height}" '
        f'xmlns="http://www.w3.org/2000/svg"><defs><linearGradient id="fade">'
        '<stop offset="0" stop-color="#e9e2c0"/><stop offset="1" stop-color="#e9e2c000"/>'
        f"</linearGradient></defs>{''.join(parts)}</svg></div></html>\n"
    )


def id_of(operation: Operation) -> tuple[str, int, str, tuple[str, ...]]:
    """What tells an operation from every other of its history."""
    return operation.client, operation.call, operation.kind, operation.args


def _columns(operations: Sequence[Operation], marks: Sequence[Mark]) -> dict[Ns, int]:
    """Where each moment is drawn: in order, and every bar as long as its label at least."""
    moments = {op.call for op in operations} | {mark.at for mark in marks}
    ending: dict[Ns, list[Operation]] = {}
    for op in operations:
        if op.back is not None:
            ending.setdefault(op.back, []).append(op)
    at: dict[Ns, int] = {}
    x = _LEFT
    for moment in sorted(moments | set(ending)):
        x = max([x, *(at.get(op.call, x) + _label_width(op) for op in ending.get(moment, ()))])
        at[moment] = x
        x += _STEP
    return at


def _places(operations: Sequence[Operation]) -> dict[object, tuple[str, int]]:
    """The lane of each operation, and its row there: what one client has open at once is apart."""
    places: dict[object, tuple[str, int]] = {}
    free: dict[str, list[Ns | None]] = {}
    for op in sorted(operations, key=lambda op: op.call):
        rows = free.setdefault(op.client, [])
        for row, until in enumerate(rows):
            if until is not None and until <= op.call:
                rows[row] = op.back
                break
        else:
            row = len(rows)
            rows.append(op.back)
        places[id_of(op)] = (op.client, row)
    return places


def _lanes(operations: Sequence[Operation]) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each client's lane begins, and how many rows it has; the height of all."""
    rows: dict[str, int] = {}
    for client, row in _places(operations).values():
        rows[client] = max(rows.get(client, 0), row + 1)
    lanes: dict[str, tuple[int, int]] = {}
    y = _TOP
    for client in sorted(rows):
        lanes[client] = (y, rows[client])
        y += rows[client] * _LANE + 6
    return lanes, y + 10


def _lane_lines(lanes: dict[str, tuple[int, int]], height: int, width: int) -> Iterable[str]:
    for client, (y, rows) in lanes.items():
        below = y + rows * _LANE + 1
        yield f'<text class=lane x="8" y="{y + 15}">{escape(client[:14])}</text>'
        yield f'<line class=lane x1="0" x2="{width}" y1="{below}" y2="{below}"/>'
    yield f'<line class=lane x1="{_LEFT - 8}" x2="{_LEFT - 8}" y1="0" y2="{height}"/>'


def _mark_line(mark: Mark, x: int, height: int) -> str:
    what = escape(mark.what)
    return (
        f'<g><title>{what} at {mark.at / 1e6:.3f} ms</title><line class=mark x1="{x}" x2="{x}" '
        f'y1="18" y2="{height}"/><text class=mark x="{x + 3}" y="14">{what}</text></g>'
    )


def _bar(op: Operation, x: int, end: int, y: int, is_culprit: bool, order: int | None) -> str:
    if is_culprit:
        look = "culprit"
    elif op.back is None:
        look = "open"
    else:
        look = "read" if op.kind in ("resolve", "read") else "write"
    number = "" if order is None else f"{order}. "
    return (
        f'<g><title>{escape(text(op))}</title><rect class={look} x="{x}" y="{y}" rx="3" '
        f'width="{max(end - x, 6)}" height="{_BAR}"/>'
        f'<text x="{x + 4}" y="{y + 15}">{number}{escape(_label(op))}</text></g>'
    )


def _label(op: Operation) -> str:
    result = "?" if op.back is None else _brief(op)
    whole = f"{op.kind} {' '.join(op.args)} → {result}".replace("  ", " ")
    return whole if len(whole) <= _LABEL_CHARS_MAX else whole[: _LABEL_CHARS_MAX - 1] + "…"


def _label_width(op: Operation) -> int:
    return int(_PIXELS_PER_CHAR * (len(_label(op)) + _NUMBER_CHARS)) + 8


def _brief(op: Operation) -> str:
    if isinstance(op.result, tuple):
        return "{" + " ".join(f"{name}={value}" for name, value, _ in op.result) + "}"
    return str(op.result)
