"""The lab's terminal tells the truth: what came, when, what is on the screen, and what was left behind."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Server, ServerSpec
from tests.lab.emulator import Emulator
from tests.lab.space import Deadline
from tests.lab.terminal import Terminal, processor_seconds

pytestmark = pytest.mark.lab

# Draws on the alternate screen, echoes keys, says its size when that changes, and puts all back at q.
PROGRAM = r"""
import os, signal, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
def say(text): os.write(1, text.encode())
def size(*_): say("\x1b[5;1Hsize %d %d \x1b[K" % tuple(os.get_terminal_size(0)))
signal.signal(signal.SIGWINCH, size)
say("\x1b[?1049h\x1b[?25l\x1b[?1003h\x1b[?2004h\x1b[>25u\x1b[?2026$p\x1b[H\x1b[1;31mready\x1b[0m ✓ 漢字")
size()
while (key := os.read(0, 32)) not in (b"q", b""):
    if key == b"f":
        written = os.open("/tmp/written", os.O_CREAT | os.O_WRONLY)
        while True:
            os.write(written, b"." * os.write(1, b"x" * 1000))
    say("\x1b[3;1Hgot %r\x1b[K" % key)
termios.tcsetattr(0, termios.TCSADRAIN, before)
say("\x1b[?2004l\x1b[?1003l\x1b[<u\x1b[?1049l\x1b[?25h")
print("said after")
sys.exit(7)
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Server]:
    server = lab.boot(ServerSpec(vllm_enabled=False, packages=("tmux",)))
    server.put("/usr/local/bin/draws", f"#!/usr/bin/python3{PROGRAM}".encode(), 0o755)
    yield server
    server.discard()


def test_bytes_that_come_are_counted_and_keys_arrive(host: Server) -> None:
    with Terminal(host, "stty raw -echo; echo go; exec cat") as terminal:
        terminal.wait_for("go")
        terminal.wait_still()
        mark = terminal.type_in("0123456789" * 100)
        seconds = terminal.seconds_to_answer(mark)
        terminal.wait_until(lambda: terminal.bytes_since(mark) >= 1000, "a thousand bytes")
        assert bytes(terminal.bytes[mark.bytes :]) == b"0123456789" * 100
        assert terminal.listen(0.3) == b""
        assert terminal.pieces[-1].end == len(terminal.bytes)
        assert mark.at < terminal.pieces[-1].at < time.monotonic()
        print(f"an echo over SSH: {seconds * 1000:.1f} ms")


def test_screen_keys_size_and_end_of_a_program_that_draws(host: Server) -> None:
    with Terminal(host, "draws", rows=10, columns=50) as terminal:
        terminal.wait_for("size 50 10")
        assert terminal.screen[0] == "ready ✓ 漢字"
        assert "red" in terminal.emulator.colours()
        assert terminal.emulator.on_alternate_screen
        for key, sent in (("enter", "\\r"), ("escape", "\\x1b"), ("f1", "\\x1bOP"), ("ctrl+z", "\\x1a"), ("x", "x")):
            terminal.press(key)
            terminal.wait_for(f"got b'{sent}'")
        terminal.resize(24, 100)
        terminal.wait_for("size 100 24")
        assert {
            "alternate screen on",
            "cursor visible off",
            "mouse reporting on",
            "bracketed paste on",
            "kitty keyboard pushed 1 times",
        } == set(terminal.left_over())
        terminal.press("q")
        assert terminal.end() == 7
        assert terminal.left_over() == []
        assert terminal.printed == "said after\n"
        assert terminal.emulator.unknown == {}


def test_questions_are_answered_where_that_is_wanted(host: Server) -> None:
    with Terminal(host, "draws", answers={b"\x1b[?2026$p": b"yes"}) as terminal:
        terminal.wait_for("got b'yes'")


def test_shell_is_as_it_was_after_a_program_that_puts_all_back(host: Server) -> None:
    with Terminal(host) as terminal:
        terminal.wait_for("$")
        terminal.type_in("stty -g >before; draws; echo ended with $?\r")
        terminal.wait_for("ready")
        terminal.press("q")
        terminal.wait_for("ended with 7")
        terminal.type_in("stty -g | diff - before && echo the same\r")
        terminal.wait_for("\nthe same")
        terminal.type_in("exit\r")
        assert terminal.end() == 0


def test_stalled_terminal_stops_who_writes_to_it(host: Server) -> None:
    def written() -> int:
        return int(host.run(["stat", "-c", "%s", "/tmp/written"]).stdout)

    with Terminal(host, "draws") as terminal:
        terminal.wait_for("ready")
        with terminal.stalled():
            mark = terminal.press("f")
            assert terminal.listen(0.3) == b""
        terminal.seconds_to_answer(mark)
        with terminal.stalled():
            first = written()
            until = Deadline("the writer to be stopped", 10)
            while (now := written()) != first:
                first = now
                until.tick(0.2)
            arrived = terminal.mark()
            assert terminal.listen(0.3) == b""
            assert written() == first
        terminal.wait_until(lambda: terminal.bytes_since(arrived) > 100_000, "what was held up")
        assert written() > first


@pytest.mark.parametrize("how", ["cut", "hang_up"])
def test_lost_connection_ends_the_far_side_and_the_next_login_is_another(host: Server, how: str) -> None:
    with Terminal(host, "sudo draws") as terminal:
        terminal.wait_for("ready")
        far = terminal.processes()
        (program,) = [pid for pid, words in far.items() if words.startswith("/usr/bin/python3")]
        assert len(terminal.forwarders()) == 1
        assert 0 < processor_seconds(program) < 5
        getattr(terminal, how)()
        until = Deadline("the far side's end", 10)
        while terminal.processes() or Path(f"/proc/{program}").exists():
            until.tick()
        assert processor_seconds(program) == 0


def test_failure_shows_the_screen(host: Server) -> None:
    with Terminal(host, "draws") as terminal:
        with pytest.raises(AssertionError, match=r"(?s)'never'.*ready ✓ 漢字.*size 80 24"):
            terminal.wait_for("never", timeout=1)
        terminal.press("q")
        with pytest.raises(AssertionError, match=r"(?s)ended without 'never'.*said after"):
            terminal.wait_for("never")


def test_tmux_keeps_the_program_through_a_cut_and_shows_it_again(host: Server) -> None:
    with Terminal(host, "tmux new-session -s kept draws") as first:
        first.wait_for("ready ✓ 漢字").wait_for("size 80 23")
        first.press("x")
        first.wait_for("got b'x'")
        first.cut()
    with Terminal(host, "tmux attach -t kept") as second:
        second.wait_for("ready ✓ 漢字").wait_for("got b'x'")
        second.resize(30, 100)
        second.wait_for("size 100 29")
        second.press("q")
        assert second.end() == 0
        assert second.left_over() == []
        assert (first.emulator.unknown, second.emulator.unknown) == ({}, {})


def drawn(*pieces: bytes, rows: int = 4, columns: int = 20) -> Emulator:
    emulator = Emulator(rows, columns)
    for piece in pieces:
        emulator.feed(piece)
    return emulator


def test_emulator_takes_bytes_in_any_pieces() -> None:
    said = "\x1b[?1049h\x1b[2J\x1b[2;3H\x1b[38;2;1;2;3m漢 ✓\x1b[0m\x1b]0;title\x07\x1b[?25l".encode()
    whole, pieces = drawn(said), drawn(*(bytes([one]) for one in said))
    assert whole.lines == pieces.lines == ["", "  漢 ✓", "", ""]
    assert (pieces.title, pieces.unknown) == ("title", {})
    assert whole.left_over() == pieces.left_over() == ["alternate screen on", "cursor visible off"]


def test_emulator_tells_the_main_screen_from_the_alternate_one() -> None:
    emulator = drawn(b"$ run\r\n\x1b[?1049h\x1b[Hdrawn")
    assert (emulator.lines[0], bytes(emulator.printed)) == ("drawn", b"$ run\r\ndrawn")
    emulator.feed(b"\x1b[?1049l\x1b[?25hended\r\n")
    assert (emulator.lines[:2], bytes(emulator.printed)) == (["$ run", "ended"], b"ended\r\n")


def test_emulator_scrolls_and_reads_colours_in_both_notations() -> None:
    emulator = drawn(b"1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[1S\x1b[r\x1b[H\x1b[38:2::255:0:0;4:3mx\x1b[m")
    assert emulator.lines == ["x", "3", "", "4"]
    assert "ff0000" in emulator.colours()
    assert emulator.left_over() == []


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (b"\x1b[?1049h", "alternate screen on"),
        (b"\x1b[?25h\x1b[?25l", "cursor visible off"),
        (b"\x1b[?1000h\x1b[?1006h", "mouse reporting on"),
        (b"\x1b[?2004h", "bracketed paste on"),
        (b"\x1b[?7l", "lines wrap off"),
        (b"\x1b[?2026h", "synchronized output on"),
        (b"\x1b[>1u\x1b[>1u\x1b[<u", "kitty keyboard pushed 1 times"),
        (b"\x1b[>4;2m", "modifyOtherKeys on"),
        (b"\x1b=", "keypad in application mode"),
        (b"\x1b[1;31mred", "colours or style"),
    ],
)
def test_emulator_names_what_was_left_over(said: bytes, left: str) -> None:
    assert drawn(said).left_over() == [left]


def test_emulator_keeps_what_it_does_not_know() -> None:
    emulator = drawn(b"\x1b[5%zseen\x1b[12\x1b[2Hthere")
    assert emulator.lines[:2] == ["seen", "there"]
    assert len(emulator.unknown) == 2
