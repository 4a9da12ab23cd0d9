"""Arithmetic expressions as text: "(b('B8') - b('B4')) / (nir + red) > 0.3 ? 1 : 0"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from timo.testing.earthengine.errors import EngineError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\""
    r"|(?P<sign>\*\*|<=|>=|==|!=|&&|\|\||<<|>>|[-+*/%<>!~&|^?:(),.\[\]=]))"
)
# Operators from the weakest to the strongest, and what they are called as algorithms.
_LEVELS: tuple[dict[str, str], ...] = (
    {"||": "or"},
    {"&&": "and"},
    {"|": "bitwiseOr"},
    {"^": "bitwiseXor"},
    {"&": "bitwiseAnd"},
    {"==": "eq", "!=": "neq"},
    {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"},
    {"<<": "leftShift", ">>": "rightShift"},
    {"+": "add", "-": "subtract"},
    {"*": "multiply", "/": "divide", "%": "mod"},
)
_CONSTANTS = {"PI": 3.141592653589793, "E": 2.718281828459045}

Name = Callable[[str], Any]
Select = Callable[[Any, list[Any]], Any]
Apply = Callable[[str, list[Any]], Any]
Node = Callable[[Name, Select, Apply], Any]


class Expression:
    """An expression, read once.

    Parameters
    ----------
    text : str
        With numbers, names, name.band, name['band'], calls, operators of C, ** and ?:.

    Raises
    ------
    EngineError
        If it cannot be read.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._place = 0
        # "x = a + b" names the result; the name says nothing about its value.
        if len(self._tokens) > 1 and self._tokens[1] == ("sign", "="):
            self._place = 2
        self._root = self._conditional()
        if self._place < len(self._tokens):
            raise self._error()

    def evaluate(self, name: Name, select: Select, apply: Apply) -> Any:
        """Its value.

        Parameters
        ----------
        name : callable
            The value of a name.
        select : callable
            Parts of a value: (value, selectors).
        apply : callable
            The value of a function: (name, operands); a condition is "?:".
        """
        return self._root(name, select, apply)

    def _split(self, text: str) -> list[tuple[str, str]]:
        found, place, text = [], 0, text.strip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                raise EngineError(
                    f"Image.parseExpression: Cannot read '{text}' from '{text[place:]}' on."
                )
            kind = "string" if match.lastgroup in {"single", "double"} else match.lastgroup
            found.append((kind, match[match.lastgroup]))
            place = match.end()
        return found

    def _error(self) -> EngineError:
        return EngineError(f"Image.parseExpression: Cannot read '{self._text}'.")

    def _next(self, *signs: str) -> str | None:
        """The next sign if it is one of these, which is then done with."""
        if self._place < len(self._tokens):
            kind, text = self._tokens[self._place]
            if kind == "sign" and text in signs:
                self._place += 1
                return text
        return None

    def _expect(self, sign: str) -> None:
        if self._next(sign) is None:
            raise self._error()

    def _conditional(self) -> Node:
        test = self._level(0)
        if self._next("?") is None:
            return test
        yes = self._conditional()
        self._expect(":")
        return _applied("?:", [test, yes, self._conditional()])

    def _level(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        left = self._level(level + 1)
        while (sign := self._next(*_LEVELS[level])) is not None:
            left = _applied(_LEVELS[level][sign], [left, self._level(level + 1)])
        return left

    def _unary(self) -> Node:
        sign = self._next("-", "+", "!", "~")
        if sign is None:
            return self._power()
        operand = self._unary()
        if sign == "-":
            return _applied("multiply", [operand, _constant(-1)])
        names = {"!": "not", "~": "bitwiseNot"}
        return _applied(names[sign], [operand]) if sign in names else operand

    def _power(self) -> Node:
        base = self._postfix()
        return base if self._next("**") is None else _applied("pow", [base, self._unary()])

    def _postfix(self) -> Node:
        node = self._primary()
        while (sign := self._next(".", "[")) is not None:
            if sign == ".":
                kind, text = self._take()
                if kind != "name":
                    raise self._error()
                node = _selected(node, [_constant(text)])
            else:
                node = _selected(node, self._list("]"))
        return node

    def _take(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise self._error()
        self._place += 1
        return self._tokens[self._place - 1]

    def _list(self, end: str) -> list[Node]:
        found: list[Node] = []
        if self._next(end):
            return found
        while True:
            found.append(self._conditional())
            if self._next(end):
                return found
            self._expect(",")

    def _primary(self) -> Node:
        kind, text = self._take()
        if kind == "number":
            return _constant(float(text) if re.search(r"[.eE]", text) else int(text))
        if kind == "string":
            return _constant(text)
        if kind == "name":
            if self._next("("):
                return _applied(text, self._list(")"))
            return _constant(_CONSTANTS[text]) if text in _CONSTANTS else _named(text)
        if text == "(":
            inner = self._conditional()
            self._expect(")")
            return inner
        raise self._error()


def _constant(value: Any) -> Node:
    def node(name: Name, select: Select, apply: Apply) -> Any:
        del name, select, apply
        return value

    return node


def _named(word: str) -> Node:
    def node(name: Name, select: Select, apply: Apply) -> Any:
        del select, apply
        return name(word)

    return node


def _selected(node: Node, selectors: list[Node]) -> Node:
    return lambda name, select, apply: select(
        node(name, select, apply), [s(name, select, apply) for s in selectors]
    )


def _applied(function: str, operands: list[Node]) -> Node:
    return lambda name, select, apply: apply(
        function, [operand(name, select, apply) for operand in operands]
    )
