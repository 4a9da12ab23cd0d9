"""Evaluation of an expression graph: {"values": {...}, "result": "..."}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import registry
from .errors import EngineError


class Scope:
    """Arguments of one call of a function, and what was evaluated with them."""

    def __init__(self, arguments: Mapping[str, Any], outer: Scope | None = None) -> None:
        self.arguments = arguments
        self.outer = outer
        self.memo: dict[str | int, Any] = {}

    def of(self, free: frozenset[str]) -> Scope:
        """Return the outermost scope on which a value with these free arguments depends."""
        scope = self
        while scope.outer is not None and not free & scope.arguments.keys():
            scope = scope.outer
        return scope

    def get(self, name: str) -> Any:
        """Return an argument's value."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.arguments:
                return scope.arguments[name]
            scope = scope.outer
        raise EngineError(f"Argument reference '{name}' is not defined in this scope.")


class Closure:
    """A function that the expression defines, with the scope in which it does."""

    def __init__(self, graph: Graph, names: list[str], body: str, scope: Scope) -> None:
        self._graph, self._names, self._body, self._scope = graph, names, body, scope

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) < len(self._names):
            raise EngineError(f"A function of {len(self._names)} arguments got {len(arguments)}.")
        bound = dict(zip(self._names, arguments, strict=False))
        return self._graph.reference(self._body, Scope(bound, self._scope))

    def named(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with arguments by name."""
        return self(*(arguments.get(name) for name in self._names))


class Graph:
    """An expression.

    Parameters
    ----------
    expression : mapping
        As the client sends it. What does not depend on the arguments of a function is evaluated once, wherever it
        stands.
    """

    def __init__(self, expression: Mapping[str, Any]) -> None:
        try:
            self._nodes: Mapping[str, Any] = expression["values"]
            self._result: str = expression["result"]
        except (KeyError, TypeError) as error:
            raise EngineError("Expression must have 'values' and 'result'.") from error
        self._free: dict[str, frozenset[str]] = {}
        self._inline: dict[int, frozenset[str]] = {}

    def evaluate(self) -> Any:
        """Return the value of the result."""
        return self.reference(self._result, Scope({}))

    def reference(self, key: str, scope: Scope) -> Any:
        """Return the value of a node, evaluated once in each scope that it depends on."""
        if key not in self._nodes:
            raise EngineError(f"Invalid value reference '{key}' in expression.")
        home = scope.of(self._free_of(key))
        if key not in home.memo:
            home.memo[key] = self._node(self._nodes[key], home)
        return home.memo[key]

    def _node(self, node: Mapping[str, Any], scope: Scope) -> Any:
        """Return the value of a node, whatever its kind."""
        (kind, content), *_ = node.items()
        if kind not in _KINDS:
            raise EngineError(f"Expression holds an unknown kind of value: {kind}.")
        if kind != "functionInvocationValue":
            return _KINDS[kind](self, content, scope)
        # The client writes what is used in one place where it is used, be that within a function that is called for
        # each image: a collection that does not depend on the image is not to be made anew for each.
        key = id(node)
        if key not in self._inline:
            self._inline[key] = self._free_in(node)
        home = scope.of(self._inline[key])
        if key not in home.memo:
            home.memo[key] = self._invoke(content, home)
        return home.memo[key]

    def _list(self, content: Any, scope: Scope) -> list[Any]:
        return [self._node(value, scope) for value in content.get("values", ())]

    def _dictionary(self, content: Any, scope: Scope) -> dict[str, Any]:
        values = content.get("values", {})
        return {key: self._node(value, scope) for key, value in values.items()}

    def _define(self, content: Any, scope: Scope) -> Closure:
        return Closure(self, content.get("argumentNames", []), content["body"], scope)

    def _invoke(self, content: Mapping[str, Any], scope: Scope) -> Any:
        """Call a function. `If` evaluates only the branch that it takes."""
        arguments = content.get("arguments", {})
        name = content.get("functionName")
        if name == "If":
            condition = self._argument(arguments, "condition", scope)
            return self._argument(arguments, "trueCase" if condition else "falseCase", scope)
        values = {key: self._node(value, scope) for key, value in arguments.items()}
        if name is not None:
            return registry.call(name, values)
        function = self.reference(content["functionReference"], scope)
        if hasattr(function, "named"):
            return function.named(values)
        return function(*values.values())

    def _argument(self, arguments: Mapping[str, Any], name: str, scope: Scope) -> Any:
        return self._node(arguments[name], scope) if name in arguments else None

    def _free_of(self, key: str) -> frozenset[str]:
        """Return the arguments that a node refers to and that none of its own functions binds."""
        if key not in self._free:
            # A graph has no cycles; the entry keeps one that does from going on for ever.
            self._free[key] = frozenset()
            self._free[key] = self._free_in(self._nodes[key])
        return self._free[key]

    def _free_in(self, node: Any) -> frozenset[str]:
        """Return the same of a node as it stands."""
        if not isinstance(node, Mapping):
            return frozenset()
        (kind, content), *_ = node.items()
        if kind == "argumentReference":
            return frozenset([content])
        if kind == "valueReference":
            return self._known(content)
        if kind == "functionDefinitionValue":
            return self._known(content["body"]) - set(content.get("argumentNames", ()))
        named = content.get("functionReference") if kind == "functionInvocationValue" else None
        parts = [self._free_in(child) for child in _children(kind, content)]
        return frozenset().union(*parts, self._known(named) if named else frozenset())

    def _known(self, key: str) -> frozenset[str]:
        return self._free_of(key) if key in self._nodes else frozenset()


def _children(kind: str, content: Any) -> list[Any]:
    """Return the nodes in a list, a dictionary or a call."""
    key = {
        "arrayValue": "values",
        "dictionaryValue": "values",
        "functionInvocationValue": "arguments",
    }.get(kind)
    values = content.get(key, ()) if key else ()
    return list(values.values()) if isinstance(values, Mapping) else list(values)


_KINDS: dict[str, Callable[[Graph, Any, Scope], Any]] = {
    "constantValue": lambda _, content, __: content,
    "integerValue": lambda _, content, __: int(content),
    "arrayValue": Graph._list,
    "dictionaryValue": Graph._dictionary,
    "valueReference": lambda graph, content, scope: graph.reference(content, scope),
    "argumentReference": lambda _, content, scope: scope.get(content),
    "functionDefinitionValue": Graph._define,
    "functionInvocationValue": Graph._invoke,
}
