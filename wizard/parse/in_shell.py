"""The program that ExecStart= gives to a shell (`bash -c '…'`), each of its bytes with its place in the unit file.

systemd takes the word apart before the shell sees it (extract-word.c and env-util.c of systemd 255): quotes and
backslashes go, %x and ${NAME} are filled in, $$ and %% become the signs; $NAME inside a word stays, for the shell. What
systemd fills in is here a variable of its own: the shell's of the same name may have another value by then.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wizard.parse import refusals
from wizard.parse.launch import Edit, Launch, VllmCommand, parse_launch

if TYPE_CHECKING:
    from wizard.parse.binding import Change

SHELLS = frozenset({b"bash", b"sh", b"dash"})
ONE_SCRIPT = re.compile(r"(?:exec\s+)?(/[\w.@/-]+)\s*")  # a program that only runs a script
_ESCAPED = dict(zip(b"abfnrtvs\\\"'", b"\a\b\f\n\r\t\v \\\"'", strict=True))
_NUMBERED = b"xuU01234567"
_FILLED_IN = re.compile(rb"%%|%[A-Za-z]|\$\$|\$\{[^}:]*\}")
_SPECIFIERS_ALONE = re.compile(rb"%%|%[A-Za-z]")  # behind `:`, which leaves variables to the shell
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# What is filled in where the shell reads its program: a value with other signs could be more than words.
_PLAIN = re.compile(r"[\w./:@%+=,~ -]*")
_STAND_IN = re.compile(r"\$\{systemd__([0-9a-f]*)\}")
_LONG = frozenset({b"--login", b"--noprofile", b"--norc", b"--posix"})
_WHY = "the program that it gives to `{}`: {}"


@dataclass(frozen=True)
class Inline:
    """`words` are the others of the command, as written; `filled_in` are systemd's tokens by their variables here.

    `login`: the shell reads profiles first, which may set any variable. `arguments`: "$@" is not empty.
    """

    shell: str
    source: bytes
    spans: tuple[tuple[int, int], ...]  # where in the file each byte of `source` comes from
    words: tuple[bytes, ...]
    filled_in: Mapping[str, str] = field(default_factory=dict)
    login: bool = False
    arguments: bool = False

    def parse(self, source: bytes, environment: Mapping[str, str] | None) -> Launch:
        """The vLLM commands of this program, or of what it was edited to."""
        given = None
        if environment is not None:
            values = {name: environment.get(token, "") for name, token in self.filled_in.items() if _NAME.match(token)}
            odd = next((self.filled_in[name] for name, value in values.items() if not _PLAIN.fullmatch(value)), None)
            if odd is not None:
                said = f"systemd fills in ${{{odd}}}, whose value is more than plain words"
                return Launch((), _WHY.format(self.shell, said), refusals.IN_UNIT)
            given = {**({} if self.login else environment), **values}
        found = parse_launch(source, given, arguments=self.arguments)
        asked = frozenset(self.filled_in.get(name, name) for name in found.asked)
        commands = tuple(_as_written(one) for one in found.commands)
        if found.refusal is None:
            return replace(found, commands=commands, asked=asked)
        remedy = found.remedy or refusals.IN_UNIT
        for of_a_script in (refusals.WRITE_IT_OUT, refusals.FROM_A_SCRIPT, refusals.CHECK_SYNTAX):
            remedy = remedy.replace(of_a_script, refusals.IN_UNIT)
        return Launch(commands, _WHY.format(self.shell, _token(found.refusal)), _token(remedy), asked)

    def in_file(self, changes: "Sequence[Change]") -> "list[Change]":
        """Changes of the program as changes of the file; what is put in follows the byte before it."""
        return [
            (self.spans[start][0] if start < end or not start else self.spans[start - 1][1], self._end(end), text)
            for start, end, text in changes
        ]

    def _end(self, end: int) -> int:
        return self.spans[end - 1][1] if end else self.spans[0][0]


def read_inline(
    text: bytes, places: Sequence[int], words: Sequence[tuple[int, int]], *, expands: bool
) -> Inline | None:
    """The program of a command line whose words stand at `words` in `text`; None where it gives none to a shell, or in
    a way that is not known here."""
    plain = [_unquoted(text, begin, end) for begin, end in words]
    known = [b"" if one is None else bytes(sign for sign, _, _ in one) for one in plain]
    first = 1 if known[:1] == [b"/usr/bin/env"] else 0
    if len(words) <= first or known[first].rpartition(b"/")[2] not in SHELLS or known[first].startswith(b"@"):
        return None
    read = _options(known[first + 1 :])
    if read is None:
        return None
    index, login = first + 1 + read[0], read[1]
    program = plain[index] if index < len(words) else None
    if program is None or not program or re.fullmatch(rb"\$[A-Za-z_]\w*", text[slice(*words[index])]):
        return None
    rest = [text[begin:end] for begin, end in (*words[:index], *words[index + 1 :])]
    if b";" in rest:
        return None
    signs, filled_in = _fill_in(program, _FILLED_IN if expands else _SPECIFIERS_ALONE)
    return Inline(
        shell=known[first].decode("utf-8", "replace"),
        source=bytes(sign for sign, _, _ in signs),
        spans=tuple((places[begin], places[end - 1] + 1) for _, begin, end in signs),
        words=tuple(rest),
        filled_in=filled_in,
        login=login,
        arguments=len(words) > index + 2,
    )


def bind_inline(
    content: bytes,
    inline: Inline,
    edited: "Inline | None",
    changes: "Sequence[Change]",
) -> Edit:
    """The unit file's `content` with these changes of its program, if systemd gives the shell just that: `edited`."""
    from wizard.parse.binding import rewrite

    wanted = rewrite(inline.source, changes)
    if edited is None or edited.source != wanted or edited.words != inline.words:
        return Edit(None, _WHY.format(inline.shell, "the host stands where quotes cut through it"), refusals.IN_UNIT)
    return Edit(content, None, None)


def _options(words: Sequence[bytes]) -> tuple[int, bool] | None:
    """The number of the shell's own options, and whether it is a login shell; None without -c, or with odd ones."""
    count, login, takes_text = 0, False, False
    while count < len(words) and words[count][:1] in (b"-", b"+"):
        word = words[count]
        count += 1
        if word in _LONG:
            login |= word == b"--login"
        elif not re.fullmatch(rb"[-+][abceflmnptuvxBCEPT]*o?", word) or word in (b"-", b"+"):
            return None
        else:
            takes_text |= word.startswith(b"-") and b"c" in word
            login |= word.startswith(b"-") and b"l" in word
            count += word.endswith(b"o")
    return (count, login) if takes_text else None


def _unquoted(text: bytes, begin: int, end: int) -> list[tuple[int, int, int]] | None:
    """Each byte of the word with the place that it stands for; None where one is written by its number."""
    found: list[tuple[int, int, int]] = []
    quote, index = 0, begin
    while index < end:
        sign = text[index]
        if sign == ord("\\") and index + 1 < end:
            following = text[index + 1]
            if following in _NUMBERED:
                return None
            if following in _ESCAPED:
                found.append((_ESCAPED[following], index, index + 2))
            else:  # one that systemd does not know stays as it is
                found += [(sign, index, index + 1), (following, index + 1, index + 2)]
            index += 2
            continue
        if sign in b"'\"" and quote in (0, sign):
            quote = sign if not quote else 0
        else:
            found.append((sign, index, index + 1))
        index += 1
    return found


def _fill_in(
    signs: list[tuple[int, int, int]], tokens: "re.Pattern[bytes]"
) -> tuple[list[tuple[int, int, int]], dict[str, str]]:
    """What the shell gets, a variable standing for each thing that systemd fills in; and those by their names."""
    text = bytes(sign for sign, _, _ in signs)
    found: list[tuple[int, int, int]] = []
    filled_in: dict[str, str] = {}
    done = 0
    for token in tokens.finditer(text):
        found += signs[done : token.start()]
        begin, done = signs[token.start()][1], token.end()
        end = signs[done - 1][2]
        if token[0] in (b"%%", b"$$"):
            found.append((token[0][0], begin, end))
            continue
        name = f"systemd__{token[0].hex()}"
        filled_in[name] = token[0][2:-1].decode("utf-8", "replace") if token[0][:1] == b"$" else token[0].decode()
        found += [(sign, begin, end) for sign in b"${" + name.encode() + b"}"]
    return [*found, *signs[done:]], filled_in


def _token(text: str) -> str:
    """Stand-ins as they are written in the unit."""
    return _STAND_IN.sub(lambda found: bytes.fromhex(found[1]).decode("utf-8", "replace"), text)


def _as_written(command: VllmCommand) -> VllmCommand:
    return replace(command, argv=tuple(_token(word) for word in command.argv))


def host_given(text: str) -> str | None:
    """The --host that counts in a command line as systemctl shows it, where that is a shell's."""
    found: Iterator[re.Match[str]] = re.finditer(r"--host(?:\s+|=)[\"']?([\w.:\[\]-]+)", text)
    return next((one[1] for one in reversed(list(found))), None)
