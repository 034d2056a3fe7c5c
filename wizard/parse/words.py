"""Words of a command, each byte with its place in the file, and what becomes of them when they are put together."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word of a command. `text` is None where it depends on something that the script does not say."""

    start: int
    end: int
    source: bytes
    text: bytes | None
    offsets: tuple[int, ...] = ()  # the place of each byte of `text`
    begin: int = 0  # where an empty text would be filled in
    variable: str | None = None  # the only thing unknown: $NAME, ${NAME} or ${NAME[@]}
    before: "Word | None" = None  # literal text around that variable
    after: "Word | None" = None
    quoted: bool = True
    origin: str | None = None  # the variable that the text was taken from
    conditional: bool = False  # an element that the script adds to an array only sometimes
    outside: bool = False  # known, but by what the environment says now
    default: "Word | None" = None  # what ${NAME:-…} and ${NAME-…} give where NAME is missing
    default_for_empty: bool = False

    @property
    def spreads(self) -> bool:
        """True if the word may become several words, or none."""
        return self.text is None and (not self.quoted or b"@" in self.source)

    def span(self, first: int = 0) -> tuple[int, int] | None:
        """Where the text from byte `first` stands in the file, or None if quotes cut through it or it is not there."""
        if self.outside:
            return None
        offsets = self.offsets[first:]
        if not offsets:
            place = self.offsets[-1] + 1 if self.offsets else self.begin
            return place, place
        if offsets[-1] - offsets[0] != len(offsets) - 1:
            return None
        return offsets[0], offsets[-1] + 1


def literal(raw: bytes, place: int, start: int, end: int, source: bytes, special: bytes | None) -> Word:
    """A word without expansions; `special` are the bytes that a backslash escapes (None: all)."""
    text, offsets, index = bytearray(), [], 0
    while index < len(raw):
        following = raw[index + 1 : index + 2]
        if raw[index : index + 1] == b"\\" and following:
            if following == b"\n":
                index += 2
                continue
            if special is None or following in special:
                index += 1
        text += raw[index : index + 1]
        offsets.append(place + index)
        index += 1
    return Word(start, end, source, bytes(text), tuple(offsets), place)


def join(words: list[Word], start: int, end: int, source: bytes) -> Word:
    """The pieces of one word; all that is literal on either side of a single variable is kept."""
    unknown = [index for index, word in enumerate(words) if word.text is None]
    if not unknown:
        return _glue(words, start, end, source)
    quoted = all(words[index].quoted for index in unknown)
    if len(unknown) > 1:
        return Word(start, end, source, None, before=_glue_some(words[: unknown[0]]), quoted=quoted)
    middle = words[unknown[0]]
    left = [*words[: unknown[0]], *([middle.before] if middle.before else [])]
    right = [*([middle.after] if middle.after else []), *words[unknown[0] + 1 :]]
    return Word(
        start,
        end,
        source,
        None,
        variable=middle.variable,
        before=_glue_some(left),
        after=_glue_some(right),
        quoted=quoted,
        default=middle.default,
        default_for_empty=middle.default_for_empty,
    )


def given(word: Word, text: str) -> Word:
    """What the environment gives for this word's variable."""
    return Word(word.start, word.end, word.source, text.encode(), outside=True)


def _glue_some(words: list[Word]) -> Word | None:
    if not words:
        return None
    return _glue(words, words[0].start, words[-1].end, b"".join(word.source for word in words))


def _glue(words: list[Word], start: int, end: int, source: bytes) -> Word:
    text = b"".join(word.text or b"" for word in words)
    offsets = tuple(offset for word in words for offset in word.offsets)
    outside = any(word.outside for word in words)
    return Word(start, end, source, text, offsets, words[0].begin if words else start, outside=outside)


def fill_in(word: Word, value: Word) -> tuple[Word, ...]:
    """The word with its variable's value in place; an unquoted one falls apart at blanks."""
    pieces = [piece for piece in (word.before, value, word.after) if piece is not None]
    whole = replace(_glue(pieces, word.start, word.end, word.source), origin=word.variable, begin=value.begin)
    text = whole.text or b""
    if word.quoted:
        return (whole,)
    if whole.outside:
        return tuple(replace(whole, text=piece, offsets=()) for piece in text.split())
    words = []
    first = 0
    for piece in text.split():
        first = text.index(piece, first)
        last = first + len(piece)
        words.append(replace(whole, text=piece, offsets=whole.offsets[first:last]))
        first = last
    if len(words) > 1:
        # What is inserted after one of them belongs into the variable.
        words = [replace(word, start=word.offsets[0], end=word.offsets[-1] + 1) for word in words]
    return tuple(words)
