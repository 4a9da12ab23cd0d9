"""Arithmetic expressions as text: "(b('B8') - b('B4')) / (nir + red) > 0.3 ? 1 : 0"."""

from __future__ import annotations

import re
from typing import Any, Protocol

from .errors import EngineError

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


class Context(Protocol):
    """What an expression is evaluated with."""

    def name(self, word: str) -> Any:
        """Return the value of a name."""

    def select(self, value: Any, selectors: list[Any]) -> Any:
        """Return parts of a value."""

    def apply(self, function: str, operands: list[Any]) -> Any:
        """Return the value of a function; a condition is "?:"."""


def evaluate(text: str, context: Context) -> Any:
    """Return the value of an expression: numbers, names, name.band, name['band'], calls, operators of C, ** and ?:.

    Raises
    ------
    EngineError
        If it cannot be read.
    """
    return _Reader(text, context).result()


class _Reader:
    """Reads an expression from left to right, and evaluates it on the way."""

    def __init__(self, text: str, context: Context) -> None:
        self._text, self._context = text, context
        self._tokens = self._split(text.strip())
        # "x = a + b" names the result; the name says nothing about its value.
        self._place = 2 if self._tokens[1:2] == [("sign", "=")] else 0

    def result(self) -> Any:
        value = self._conditional()
        if self._place < len(self._tokens):
            raise self._error()
        return value

    def _split(self, text: str) -> list[tuple[str, str]]:
        found, place = [], 0
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

    def _take(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise self._error()
        self._place += 1
        return self._tokens[self._place - 1]

    def _next(self, *signs: str) -> str | None:
        """Take the next sign if it is one of these."""
        if self._place < len(self._tokens):
            kind, text = self._tokens[self._place]
            if kind == "sign" and text in signs:
                self._place += 1
                return text
        return None

    def _expect(self, sign: str) -> None:
        if self._next(sign) is None:
            raise self._error()

    def _conditional(self) -> Any:
        test = self._level(0)
        if self._next("?") is None:
            return test
        yes = self._conditional()
        self._expect(":")
        return self._context.apply("?:", [test, yes, self._conditional()])

    def _level(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self._unary()
        left = self._level(level + 1)
        while (sign := self._next(*_LEVELS[level])) is not None:
            left = self._context.apply(_LEVELS[level][sign], [left, self._level(level + 1)])
        return left

    def _unary(self) -> Any:
        match self._next("-", "+", "!"):
            case "-":
                return self._context.apply("multiply", [self._unary(), -1])
            case "+":
                return self._unary()
            case "!":
                return self._context.apply("not", [self._unary()])
        base = self._postfix()
        if self._next("**") is None:
            return base
        return self._context.apply("pow", [base, self._unary()])

    def _postfix(self) -> Any:
        value = self._primary()
        while (sign := self._next(".", "[")) is not None:
            kind, text = self._take() if sign == "." else ("name", "")
            if kind != "name":
                raise self._error()
            value = self._context.select(value, [text] if sign == "." else self._list("]"))
        return value

    def _list(self, end: str) -> list[Any]:
        found: list[Any] = []
        if self._next(end):
            return found
        while True:
            found.append(self._conditional())
            if self._next(end):
                return found
            self._expect(",")

    def _primary(self) -> Any:
        kind, text = self._take()
        if kind == "number":
            return float(text) if re.search(r"[.eE]", text) else int(text)
        if kind == "string":
            return text
        if kind == "name":
            if self._next("("):
                return self._context.apply(text, self._list(")"))
            return _CONSTANTS[text] if text in _CONSTANTS else self._context.name(text)
        if text == "(":
            inner = self._conditional()
            self._expect(")")
            return inner
        raise self._error()
