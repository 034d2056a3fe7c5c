"""Variables that a launch script sets for vLLM: written out, read from a file, or not known before it runs."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

_SET = re.compile(
    r"(?:^|(?<=[\s;&]))(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|\S*)", re.ASCII
)
_CAT = re.compile(r"\"?\$\((?:cat\s+|<\s*)(?P<path>/[^\s()\"'$;|&]+)\)\"?")
_SOURCED = re.compile(r"^[ \t]*(?:source|\.)\s+[\"']?(?P<path>/[^\s\"'$;|&]+)", re.MULTILINE)
_EXPORTED = re.compile(r"^[ \t]*export[ \t]+(\S.*)", re.MULTILINE)
_ALL_EXPORTED = re.compile(r"^[ \t]*set\s+(?:-[a-z]*a[a-z]*|-o\s+allexport)\b", re.MULTILINE)


@dataclass(frozen=True)
class ShellSetting:
    """`value` is None where only running the script would tell it; `path` is the file that it is read from, if any.

    `exported`: the programs that the script starts get it.
    """

    name: str
    value: str | None = field(repr=False)
    exported: bool
    path: str = ""


def parse_shell_settings(text: str, *, all_exported: bool = False) -> tuple[ShellSetting, ...]:
    """The settings of a script, in its order. `all_exported`: it is sourced under `set -a`."""
    all_exported = all_exported or exports_all(text)
    text = text.replace("\\\n", "  ")
    named = set(_exported_names(text))
    found = []
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        # $(cat FILE) has a space in it, which would end the value.
        for match in _SET.finditer(_CAT.sub(lambda read: f'"$(cat:{read["path"]})"', line)):
            raw, name = match["value"], match["name"]
            before, after = line[: line.find(f"{name}=")], line[line.find(f"{name}=") :]
            given_along = not after.strip().endswith(raw) and ";" not in after
            exported = all_exported or given_along or name in named or _is_exported(before)
            path = raw.removeprefix('"$(cat:').removesuffix(')"') if raw.startswith('"$(cat:') else ""
            value = None if path or re.search(r"[$`]", raw.partition("'")[0]) else _unquoted(raw)
            found.append(ShellSetting(name, value, exported, path))
    return tuple(found)


def parse_sourced(text: str) -> tuple[str, ...]:
    """The files that the script sources by their whole path."""
    return tuple(match["path"] for match in _SOURCED.finditer(text))


def exports_all(text: str) -> bool:
    """True if the script says `set -a`."""
    return _ALL_EXPORTED.search(text) is not None


def _exported_names(text: str) -> Iterator[str]:
    """The names at the beginning of each `export`, up to the first that is more than a name."""
    for line in _EXPORTED.finditer(text):
        for word in line[1].split():
            name = re.match(r"\w*", word)
            assert name is not None
            yield name[0]
            if name[0] != word:
                break


def _is_exported(before: str) -> bool:
    return re.search(r"\b(?:export|declare\s+-\w*x\w*|env)\s", before) is not None


def _unquoted(raw: str) -> str:
    try:
        return "".join(shlex.split(raw))
    except ValueError:
        return raw
