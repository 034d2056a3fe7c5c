"""What `systemctl show` prints about units.

The form is that of systemd 249 to 257 (systemctl-show.c): `Name=value` lines in systemd's own order, a blank
line between units, and one line per item for lists such as ExecStart, EnvironmentFiles and Listen.
"""

import re
import shlex

_PROPERTY = re.compile(r"^([A-Z][A-Za-z0-9]*)=(.*)$", re.DOTALL)
_COMMAND = re.compile(r"\{ path=(?P<path>.*?) ; argv\[\]=(?P<argv>.*?) ; (?:ignore_errors|flags)=", re.DOTALL)
_ENVIRONMENT_FILE = re.compile(r"^(?P<path>.*?)(?: \(ignore_errors=(?P<ignore>yes|no)\))?$", re.DOTALL)
_LISTEN = re.compile(r"(?:^|\s)(\[[^\]\s]*\]|[0-9.]+|\*)(?:%[^:\s]+)?:(\d{1,5})(?:%\S+)? \(Stream\)")


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Properties of each unit by its Id ('' without one); items of a list are joined by newlines."""
    blocks: list[dict[str, str]] = []
    ended = True
    for line in text.replace("\r\n", "\n").split("\n"):
        found = _PROPERTY.match(line)
        if not line.strip():
            ended = True
        elif found is not None:
            if ended:
                blocks.append({})
            _add(blocks[-1], found[1], found[2])
            ended = False
        elif blocks:
            # The rest of a value with line breaks in it, such as an argument of bash -c.
            name = next(reversed(blocks[-1]))
            blocks[-1][name] += ("\n\n" if ended else "\n") + line
            ended = False
    units: dict[str, dict[str, str]] = {}
    for block in blocks:
        units.setdefault(block.get("Id", ""), {}).update(block)
    return units


def parse_exec_start(value: str) -> tuple[str, ...]:
    """The arguments of ExecStart's first command, or () where there is none.

    systemd joins arguments by spaces, so one that holds a space and was not quoted comes back as two.
    """
    commands = parse_exec_commands(value)
    return commands[0] if commands else ()


def parse_exec_commands(value: str) -> tuple[tuple[str, ...], ...]:
    """The arguments of each command of ExecStart, ExecStartPre or the like."""
    return tuple(_split_arguments(text) for text in exec_texts(value))


def exec_texts(value: str) -> tuple[str, ...]:
    """The same commands as they are printed: their arguments with a space between them, and no quotes of the unit."""
    return tuple(found["argv"] for found in _COMMAND.finditer(value))


def parse_environment_files(value: str) -> tuple[tuple[str, bool], ...]:
    """Path, and whether it may be missing (`-` before it in the unit), of each EnvironmentFile."""
    files = []
    for line in value.split("\n"):
        found = _ENVIRONMENT_FILE.match(line.strip())
        if found and found["path"]:
            files.append((found["path"], found["ignore"] == "yes"))
    return tuple(files)


def parse_socket_listen(value: str) -> tuple[tuple[str, int], ...]:
    """Address (without brackets; `*` for any) and port of each TCP listener of a socket unit's Listen."""
    return tuple(
        (found[1].strip("[]"), int(found[2]))
        for found in _LISTEN.finditer(value.replace("Listen=", " "))
        if int(found[2]) <= 65535
    )


def _add(properties: dict[str, str], name: str, value: str) -> None:
    before = properties.pop(name, "")
    properties[name] = f"{before}\n{value}" if before else value


def _split_arguments(text: str) -> tuple[str, ...]:
    if any(quote in text for quote in "\"'\\"):
        try:
            return tuple(shlex.split(text))
        except ValueError:
            pass
    return tuple(text.split())
