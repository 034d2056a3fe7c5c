"""What a terminal makes of the bytes that come to it: the screen as text, and the modes that it is left in.

pyte draws. What it does not know is done here, or taken out of its way, and nothing is passed over in silence: a
sequence that nobody here knows is kept in `unknown`.
"""

import re
from collections import Counter

import pyte

SEQUENCE = re.compile(
    rb"\x1b\[(?P<private>[<-?]*)(?P<parameters>[0-9:;]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    rb"|\x1b\](?P<command>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|\x1b[P_^X][^\x1b]*\x1b\\"
    rb"|\x1b(?P<middle>[ -/]*)(?P<escape>[0-OQ-WYZ\\`-~])",
    re.S,
)
BEGUN = re.compile(rb"\x1b(?:\[[<-?]*[0-9:;]*[ -/]*|\][^\x07\x1b]*|[P_^X][^\x1b]*|[ -/]*)", re.S)
PLAIN = b"@ABCDEFGHJKLMPXacdefghlmnr'"  # what pyte does itself, without a private mark
FOR_PYTE = (7, 25)  # its own private modes that change what is drawn; not 3, 5, 6: no program here uses them
NAMES = {
    7: "lines wrap",
    25: "cursor visible",
    47: "alternate screen",
    1000: "mouse reporting",
    1002: "mouse reporting",
    1003: "mouse reporting",
    1004: "focus reporting",
    1006: "mouse reporting",
    1047: "alternate screen",
    1049: "alternate screen",
    2004: "bracketed paste",
    2026: "synchronized output",
    2048: "size reporting",
}
FOUND_ON = (7, 25)  # the modes that a terminal has switched on before any program runs


class Emulator:
    """A terminal of `rows` × `columns`. `feed` may be given its bytes in any pieces."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.modes: dict[int, bool] = {}  # each private mode that was ever set or reset
        self.kitty = 0  # how many sets of kitty's keyboard flags are pushed
        self.other_keys = 0  # xterm's modifyOtherKeys
        self.keypad = False
        self.title = ""
        self.clipboard: list[bytes] = []  # what OSC 52 has put there, as base64
        self.printed = bytearray()  # the text since the alternate screen was left last, or since the beginning
        self.frames = 0  # how many synchronized updates came
        self.unknown: Counter[str] = Counter()
        self._screens = {alternate: pyte.Screen(columns, rows) for alternate in (False, True)}
        self._streams = {alternate: pyte.ByteStream(screen) for alternate, screen in self._screens.items()}
        self._alternate = False
        self._rest = b""
        self._drawn = b" "

    @property
    def on_alternate_screen(self) -> bool:
        return self._alternate

    @property
    def lines(self) -> list[str]:
        """The screen, each line without the blanks at its end."""
        return [line.rstrip() for line in self._screens[self._alternate].display]

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column, counted from 0."""
        cursor = self._screens[self._alternate].cursor
        return cursor.y, cursor.x

    def colours(self) -> set[str]:
        """All colours that are on the screen now, by pyte's names and hexadecimal numbers; "default" too."""
        cells = [cell for row in self._screens[self._alternate].buffer.values() for cell in row.values()]
        return {cell.fg for cell in cells} | {cell.bg for cell in cells}

    def left_over(self) -> list[str]:
        """What a program has changed here and not put back; none where the terminal is as it was found."""
        changed = {number for number, on in self.modes.items() if on is not (number in FOUND_ON)}
        found = {f"{NAMES.get(number, f'mode {number}')} {self._word(number)}" for number in changed}
        if self.kitty:
            found.add(f"kitty keyboard pushed {self.kitty} times")
        if self.other_keys:
            found.add("modifyOtherKeys on")
        if self.keypad:
            found.add("keypad in application mode")
        attributes = self._screens[self._alternate].cursor.attrs
        if attributes != self._screens[self._alternate].default_char._replace(data=attributes.data):
            found.add("colours or style")
        return sorted(found)

    def _word(self, number: int) -> str:
        return "on" if self.modes[number] else "off"

    def resize(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        for screen in self._screens.values():
            screen.resize(rows, columns)

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        place = 0
        while (start := data.find(b"\x1b", place)) >= 0:
            self._draw(data[place:start])
            found = SEQUENCE.match(data, start)
            if found is None:
                begun = BEGUN.match(data, start)
                assert begun is not None
                if begun.end() == len(data) or data[begun.end() :] == b"\x1b":  # the rest is still to come
                    break
                self.unknown[repr(begun[0])] += 1  # cut short by another
                place = begun.end()
                continue
            self._obey(found)
            place = found.end()
        else:
            self._draw(data[place:])
            start = len(data)
        self._rest = data[start:]

    def _draw(self, text: bytes) -> None:
        if text:
            self.printed += text
            self._drawn = text
            self._streams[self._alternate].feed(text)

    def _pass_on(self, sequence: bytes) -> None:
        self._streams[self._alternate].feed(sequence)

    def _obey(self, found: re.Match[bytes]) -> None:
        if found["final"] is not None:
            self._control(found)
        elif found["command"] is not None:
            self._command(found["command"])
        elif found["escape"] is not None:
            self._escape(found[0], found["middle"], found["escape"])
        # else a device control, privacy or application string: a question, or for another program

    def _control(self, found: re.Match[bytes]) -> None:
        private, final, between = found["private"], found["final"], found["between"]
        numbers = [int(word.partition(b":")[0] or 0) for word in found["parameters"].split(b";")]
        match private, between, final:
            case b"?", b"", b"h" | b"l":
                for number in numbers:
                    self._set(number, on=final == b"h")
            case b"", b"", b"m":
                self._pass_on(b"\x1b[" + plain_colours(found["parameters"]) + b"m")
            case b"", b"", b"b":
                self._draw(self._drawn.decode(errors="replace")[-1:].encode() * max(numbers[0], 1))
            case b"", b"", b"S" | b"T":
                self._scroll(max(numbers[0], 1), up=final == b"S")
            case b"", b"", b"s" | b"u":
                self._pass_on(b"\x1b7" if final == b"s" else b"\x1b8")
            case b">", b"", b"u":
                self.kitty += 1
            case b"<", b"", b"u":
                self.kitty = max(self.kitty - max(numbers[0], 1), 0)
            case b">", b"", b"m":
                self.other_keys = numbers[1] if numbers[0] == 4 and len(numbers) > 1 else 0
            # questions: whether they are answered is for the terminal to say
            case (b"?", b"", b"u") | (b"?", b"$", b"p") | (b"" | b">" | b"=", b"", b"c") | (b">", b"", b"q"):
                pass
            case b"", b"", b"n" | b"t" | b"c":
                pass
            case b"", b" ", b"q":  # the cursor's shape
                pass
            case b"", b"", _ if final in PLAIN:
                self._pass_on(found[0])
            case _:
                self.unknown[repr(found[0])] += 1

    def _set(self, number: int, *, on: bool) -> None:
        self.modes[number] = on
        if number in (47, 1047, 1049) and on is not self._alternate:
            self._alternate = on
            if on:
                self._screens[True].reset()
            else:
                self.printed.clear()
        elif number in FOR_PYTE:
            self._pass_on(b"\x1b[?%d%s" % (number, b"h" if on else b"l"))
        elif number == 2026 and on:
            self.frames += 1

    def _scroll(self, count: int, *, up: bool) -> None:
        screen = self._screens[self._alternate]
        row, column = screen.cursor.y, screen.cursor.x
        margins = screen.margins
        screen.cursor.y = (margins.bottom if margins else screen.lines - 1) if up else (margins.top if margins else 0)
        for _ in range(count):
            if up:
                screen.index()
            else:
                screen.reverse_index()
        screen.cursor.y, screen.cursor.x = row, column

    def _command(self, command: bytes) -> None:
        number, _, value = command.partition(b";")
        if number in (b"0", b"2"):
            self.title = value.decode(errors="replace")
        elif number == b"52":
            self.clipboard.append(value.partition(b";")[2])
        elif number not in (b"1", b"10", b"11", b"12", b"112", b"22", b"8"):
            self.unknown[repr(b"OSC " + command[:20])] += 1

    def _escape(self, sequence: bytes, middle: bytes, final: bytes) -> None:
        if final in (b"=", b">") and not middle:
            self.keypad = final == b"="
        elif (final in b"78DEHMc" and not middle) or middle == b"#":
            self._pass_on(sequence)
        elif not (middle in (b"(", b")") and final in b"AB0"):  # character sets: all here is UTF-8
            self.unknown[repr(sequence)] += 1


def plain_colours(parameters: bytes) -> bytes:
    """Colours and styles with semicolons alone, as pyte reads them: 38:2::1:2:3 is 38;2;1;2;3, and 4:3 is 4."""
    words = []
    for word in parameters.split(b";"):
        head, *rest = word.split(b":")
        if head in (b"38", b"48") and rest:
            numbers = [part for part in rest[1:] if part]
            words += [head, rest[0], *(numbers[-3:] if rest[0] == b"2" else numbers[-1:])]
        elif head == b"58":
            continue  # the colour of an underline
        else:
            words.append(head)
    return b";".join(words)
