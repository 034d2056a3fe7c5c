"""The call without a command: which wizard it gets, decided before anything of weight is loaded."""

from __future__ import annotations

import argparse
import codecs
import os
import sys
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gateway import Gateway

NO_TERMINAL = "the wizard asks questions, and there is no terminal here: sudo vllm-https-setup apply --answers F"


class View(Enum):
    """How the wizard is shown."""

    NONE = auto()
    PLAIN = auto()
    SCREENS = auto()


def choose_view(*, plain: bool) -> View:
    """Lines are read from standard input and written to standard output; screens are drawn on standard error."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return View.NONE
    dumb = os.environ.get("TERM", "") in ("", "dumb")
    # In another encoding the screens' lines and signs can't be drawn; lines of text are put into what it has.
    other = codecs.lookup(sys.stderr.encoding).name != "utf-8"
    return View.PLAIN if plain or dumb or other or not sys.stderr.isatty() else View.SCREENS


def start(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Runs the wizard. Returns its exit code."""
    from .cli import fail_call, needs_root, vars_of

    view = choose_view(plain=options.plain)
    if view is View.NONE:
        print(NO_TERMINAL, file=sys.stderr)
        return 2
    if options.demo is None and (refused := needs_root(words)):
        return refused
    # Whatever the caller's mask is: files are made with the modes that we name.
    os.umask(0o022)
    from .answers_file import AnswersError

    try:
        gateway = make_gateway(options.demo, options.start_answers)
    except AnswersError as error:
        return fail_call(words, "", [vars_of(problem) for problem in error.errors])
    if view is View.PLAIN:
        from .plain import run_plain

        return run_plain(gateway)
    from screens.app import run_app

    return run_app(gateway, mouse=options.mouse)


def make_gateway(scene: str | None, answers: str | None) -> Gateway:
    """The simulated server of this scene, or this one, with the answers that are given. Raises AnswersError."""
    if scene is not None:
        from .demo import DemoGateway

        return DemoGateway(scene)
    from .gateway import RealGateway

    return RealGateway(None if answers is None else read_answers(answers))


def read_answers(path: str) -> bytes:
    """The text of an answers file without errors. Raises AnswersError."""
    from . import answers, commands
    from .cli import sudo_uid

    text = commands.read_answers(path, sudo_uid())
    answers.load(text)
    return text
