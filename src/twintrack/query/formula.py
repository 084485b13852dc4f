"""Arithmetic over series: `A / B * 100`. Nothing known on either side, or a division by zero, gives nothing."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from twintrack.query.scope import refused

_CHARACTERS = 200
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse(text: str, names: set[str]) -> ast.expr:
    """Raises: RequestError for anything but + - * / ( ), numbers and the names of series."""
    hint = f"use + - * / ( ), numbers, and the series {', '.join(sorted(names))}"
    try:
        tree = ast.parse(text.strip(), mode="eval").body if len(text) <= _CHARACTERS else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or not _known(tree, names):
        raise refused("the formula cannot be read", hint, "bad_formula")
    return tree


def _known(node: ast.expr, names: set[str]) -> bool:
    match node:
        case ast.BinOp():
            return type(node.op) in _OPERATORS and _known(node.left, names) and _known(node.right, names)
        case ast.UnaryOp(op=ast.USub()):
            return _known(node.operand, names)
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.Name():
            return node.id in names
    return False


def value(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    match node:
        case ast.BinOp():
            left, right = value(node.left, values), value(node.right, values)
            if left is None or right is None:
                return None
            try:
                found = _OPERATORS[type(node.op)](left, right)
            except (ZeroDivisionError, OverflowError):
                return None
            return found if math.isfinite(found) else None
        case ast.UnaryOp():
            inner = value(node.operand, values)
            return None if inner is None else -inner
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name():
            return values[node.id]
    return None
