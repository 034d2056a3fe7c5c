"""What the model refuses, in words: the key as people write it, what is wrong, what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wizard.answers_file import AnswerProblem
from wizard.answers_sections import Expected
from wizard.answers_values import Wrong, quoted
from wizard.answers_yaml import Path, Tree, key_name

_SECRETS = ("api_key", "apikey", "key", "token", "password", "secret")


def problems(error: ValidationError, tree: Tree, model: type[BaseModel]) -> Iterator[AnswerProblem]:
    """One problem a key, with its line. What only the model as a whole refuses is left to the caller."""
    grouped: dict[Path, list[Any]] = {}
    for found in error.errors(include_url=False):
        if path := _path(found["loc"], model):
            grouped.setdefault(path, []).append(found)
        elif found["type"] != "value_error":
            yield AnswerProblem(tree.line(()), "", f"this is {_shown(tree.data)}", "version, tls and their values")
    for path, all_found in grouped.items():
        # Of a choice of kinds, the one that the value belongs to says what is wrong inside it.
        if not any(len(other) > len(path) and other[: len(path)] == path for other in grouped):
            yield _problem(path, all_found, tree, model)


def _problem(path: Path, found: list[Any], tree: Tree, model: type[BaseModel]) -> AnswerProblem:
    line, key = tree.line(path), key_name(path)
    kinds = {each["type"] for each in found}
    if "extra_forbidden" in kinds:
        return AnswerProblem(line, key, *unknown(path, model))
    field = field_at(path, model)
    right = expected(field)
    if "missing" in kinds:
        return AnswerProblem(line, key, "this key is missing", right)
    for each in found:
        wrong = each.get("ctx", {}).get("error")
        if isinstance(wrong, Wrong):
            return AnswerProblem(line, key, wrong.message, wrong.expected or right)
    return AnswerProblem(line, key, _message(kinds, _value(tree.data, path)), right)


def _message(kinds: set[str], value: Any) -> str:
    if kinds & {"greater_than_equal", "less_than_equal"}:
        return f"{value} is out of range"
    if "too_short" in kinds:
        return "this list is empty"
    if "string_too_long" in kinds:
        return f"this text has {len(value)} characters"
    if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off") and kinds & {"bool_type"}:
        return f"{quoted(value)} is a word in YAML 1.2, not true or false"
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) and kinds & {"int_type"}:
        return f"{quoted(value)} is text because of its quotation marks"
    return f"{_shown(value)} is not right here"


def unknown(path: Path, model: type[BaseModel]) -> tuple[str, str]:
    """What to say of a key that there is not: its nearest right one, or all that could stand there."""
    key, parent = str(path[-1]), path[:-1]
    message = f"there is no key {quoted(key)} here"
    here = keys(section_at(parent, model))
    plain = key.lower().replace("-", "_")
    near = difflib.get_close_matches(plain, here, 1, 0.6)
    right = [key_name((*parent, *near))] if near else []
    if not near and plain in _SECRETS:
        return message, "no secret: the API key stays in vLLM's env file"
    if not difflib.get_close_matches(plain, here, 1, 0.8):  # a key of another section is more likely meant
        places = (f"{name}.{plain}" for name in keys(model) if plain in keys(section_at((name,), model)))
        right = [*places, *right]
    return message, " or ".join(right) or "one of " + ", ".join(here)


def hidden_problems(tree: Tree, model: type[BaseModel], known: set[str]) -> Iterator[AnswerProblem]:
    """What the model does not tell: a field's own name in place of its key, repeats beside other errors."""
    for path in tree.lines:
        if path and path[-1] == "from_" and key_name(path) not in known:
            yield AnswerProblem(tree.line(path), key_name(path), *unknown(path, model))
        items = _value(tree.data, path)
        if not isinstance(items, tuple) or not any(key.startswith(f"{key_name(path)}[") for key in known):
            continue
        for number, item in enumerate(items):
            if item in items[:number]:
                here = (*path, number)
                yield AnswerProblem(tree.line(here), key_name(here), "this repeats an earlier item", "each once")


def keys(model: type[BaseModel] | None) -> list[str]:
    """The keys of a section as the file writes them."""
    fields = {} if model is None else model.model_fields
    return [field.serialization_alias or name for name, field in fields.items()]


def field_at(path: Path, model: type[BaseModel]) -> FieldInfo | None:
    """The field that a path leads to, or into."""
    found: FieldInfo | None = None
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or here is None:
            continue
        found = next(
            (field for name, field in here.model_fields.items() if part in (name, field.serialization_alias)),
            found,
        )
        here = None if found is None else _section(found.annotation)
    return found


def section_at(path: Path, model: type[BaseModel]) -> type[BaseModel] | None:
    """The section that a path leads to; None where there is none."""
    if not path:
        return model
    field = field_at(path, model)
    return None if field is None else _section(field.annotation)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a type is, or is a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)


def _path(loc: tuple[str | int, ...], model: type[BaseModel]) -> Path:
    """The place of an error without the names of the kinds that were tried there."""
    path: list[str | int] = []
    here: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            path.append(part)
        elif here is not None:
            path.append(part)
            here = section_at(tuple(path), model) if part in keys(here) else None
    return tuple(path)


def expected(field: FieldInfo | None) -> str | None:
    """What would be right there."""
    if field is None:
        return None
    said = next((each.text for each in field.metadata if isinstance(each, Expected)), None)
    section = _section(field.annotation)
    return said or (None if section is None else "a section with " + ", ".join(keys(section)))


def _value(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _shown(value: Any) -> str:
    """A value in words; a text that may be a pasted key or certificate is not shown."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}" if len(str(value)) < 40 else "a very large number"
    if isinstance(value, str):
        return "this text" if "\n" in value or "-----BEGIN" in value else f"the text {quoted(value)}"
    return "a list" if isinstance(value, tuple) else "a section"
