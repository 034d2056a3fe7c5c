"""The keys of all findings that the program can make, and their levels, read from its source: none is forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wizard.explanations import ROWS
from wizard.model import Level
from wizard.steps import STEPS

WIZARD = Path(__file__).resolve().parents[2] / "wizard"
STEP_IDS = tuple(step.id for step in STEPS)
# What stands in the gaps of a key that is put together. The step that proves is not walked: it has its rows.
GAPS = {"{step.id}": tuple(step.id for step in STEPS if step.prove is None), "{row.id}": ROWS}
# Findings that only carry a fix from one function to another: nobody sees them.
INTERNAL = ("fallback", "undo")


class Unreadable(Exception):
    """A key that can't be read from the source."""


@dataclass(frozen=True)
class Found:
    """One call of `Finding`: the keys and the levels that it can have, and where it stands."""

    keys: frozenset[str]
    levels: frozenset[Level]
    place: str


@dataclass(frozen=True)
class Module:
    root: Path
    path: Path
    tree: ast.Module

    def functions(self) -> Iterator[ast.FunctionDef]:
        return (one for one in ast.walk(self.tree) if isinstance(one, ast.FunctionDef))

    def calls(self, name: str) -> Iterator[ast.Call]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


def modules(root: Path = WIZARD) -> list[Module]:
    return [Module(root, path, ast.parse(path.read_text())) for path in sorted(root.rglob("*.py"))]


@cache
def collect(root: Path = WIZARD) -> list[Found]:
    """Every call of `Finding` below a folder."""
    everything = modules(root)
    return [_read(call, module, everything) for module in everything for call in module.calls("Finding")]


def levels_by_key(root: Path = WIZARD) -> dict[str, list[Level]]:
    """Each key that a person can see, with its levels, mildest first."""
    found: dict[str, set[Level]] = {}
    for one in collect(root):
        for key in one.keys - set(INTERNAL):
            found.setdefault(key, set()).update(one.levels)
    return {key: sorted(levels, key=list(Level).index) for key, levels in found.items()}


def _read(call: ast.Call, module: Module, everything: list[Module]) -> Found:
    given = _arguments(call)
    place = f"{module.path.relative_to(module.root.parent)}:{call.lineno}"
    keys = frozenset(_strings(given["key"], call, module, everything))
    if not keys:
        raise Unreadable(f"{place}: the key of this finding can't be read: write it as text, or as a constant")
    return Found(keys, frozenset(_levels(given)), place)


def _arguments(call: ast.Call) -> dict[str, ast.expr]:
    names = ("key", "level", "summary", "remedy", "evidence", "fix")
    by_place = dict(zip(names, call.args, strict=False))
    return by_place | {one.arg: one.value for one in call.keywords if one.arg}


def _levels(given: dict[str, ast.expr]) -> tuple[Level, ...]:
    """As written; where it is worked out, what `Finding` allows: with a fix drift, with a remedy warn or blocked."""
    written = {
        Level[node.attr]
        for node in ast.walk(given["level"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Level"
    }
    if written:
        return tuple(written)
    if "fix" in given:
        return (Level.DRIFT,)
    return (Level.WARN, Level.BLOCKED) if "remedy" in given else (Level.OK, Level.INFO)


def _strings(node: ast.expr, call: ast.AST, module: Module, everything: list[Module]) -> Iterator[str]:
    """What an expression can be: text, text with gaps, a choice, or a name that stands for such."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield from _filled(ast.unparse(node).removeprefix("f")[1:-1])
        case ast.IfExp():
            yield from _strings(node.body, call, module, everything)
            yield from _strings(node.orelse, call, module, everything)
        case ast.Name(id=name):
            yield from _named(name, call, module, everything)
        case _:
            return


def _filled(text: str) -> Iterator[str]:
    for gap, words in GAPS.items():
        if gap in text:
            yield from (text.replace(gap, word) for word in words)


def _named(name: str, call: ast.AST, module: Module, everything: list[Module]) -> Iterator[str]:
    """A name's values: what is assigned to it, what callers give for it, or what a loop yields into it."""
    around = [one for one in module.functions() if any(node is call for node in ast.walk(one))]
    for scope in (*around, module.tree):
        for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
            if isinstance(node, ast.Assign):
                for value in _assigned(name, node):
                    yield from _strings(value, call, module, everything)
            if isinstance(node, ast.For) and any(
                isinstance(one, ast.Name) and one.id == name for one in ast.walk(node.target)
            ):
                yield from _yielded(node.iter, module)
    for function in around:
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        if name in names:
            yield from _given(function.name, name, names.index(name), everything)


def _assigned(name: str, node: ast.Assign) -> Iterator[ast.expr]:
    """What a name gets: the value; or, where several are given at once, its own."""
    for target in node.targets:
        if isinstance(target, ast.Name) and target.id == name:
            yield node.value
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = zip(target.elts, node.value.elts, strict=False)
            yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def _yielded(iterated: ast.expr, module: Module) -> Iterator[str]:
    """The texts like keys in what a function of this module yields."""
    if not (isinstance(iterated, ast.Call) and isinstance(iterated.func, ast.Name)):
        return
    for function in module.functions():
        if function.name == iterated.func.id:
            for node in ast.walk(function):
                if isinstance(node, ast.Yield | ast.Return) and node.value is not None:
                    yield from (
                        one.value
                        for one in ast.walk(node.value)
                        if isinstance(one, ast.Constant) and isinstance(one.value, str) and _is_key(one.value)
                    )


def _given(function: str, name: str, number: int, everything: list[Module]) -> Iterator[str]:
    """What callers give for a parameter, as text."""
    for module in everything:
        for call in module.calls(function):
            given = next((one.value for one in call.keywords if one.arg == name), None)
            if given is None and number < len(call.args):
                given = call.args[number]
            if given is not None:
                yield from _strings(given, call, module, everything)


def _is_key(text: str) -> bool:
    return text.partition(".")[0] in STEP_IDS and "." in text
