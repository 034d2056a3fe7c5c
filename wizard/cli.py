"""The command line: one function a command, which imports what it needs and no more."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import caller, streams

if TYPE_CHECKING:
    import argparse

    from .model import SetupError
    from .report import Document

LOOKING = ("plan", "apply", "repair", "status", "test", "restore", "watch")
COMMANDS_WITH_REPORT = (
    *("plan", "apply", "repair", "status", "test", "rollback", "uninstall"),
    *("key", "backup", "restore"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; every failure ends as a sentence, and its code as the contract says."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    streams.prepare()
    if arguments is None:
        caller.leave_behind()
    if words[:1] == ["run"] and len(words) == 2:
        # A run's unit executes this: to load what reads the commands of people takes as long as five of them run.
        ask_ahead()
        return guarded(lambda: run(words[1]))
    from .call import Usage, build_parser, check_together

    try:
        options = build_parser().parse_args(words)
        check_together(options)
    except Usage as error:
        return fail_call(words, "", [{"line": None, "key": "", "message": str(error), "expected": None}])
    except SystemExit as ended:
        return int(ended.code or 0)  # --help, --version
    if options.command in LOOKING:
        ask_ahead()
    action = ACTIONS[options.command] if options.command else wizard
    return guarded(lambda: action(options, words))


def guarded(act: Callable[[], int]) -> int:
    """What it returns; whatever it raises ends as a sentence."""
    try:
        return act()
    except BrokenPipeError:
        # Whoever read our output is gone (| head): nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from .shortage import of_error

        if (short := of_error(error)) is None:
            return fail_unexpectedly(error)
        streams.say(f"{short.message}\n  {short.remedy}")
        return 1


def ask_ahead() -> None:
    """Before all that takes its time to load; who is not root is told so, and nothing is asked."""
    if os.geteuid() == 0:
        from . import ahead

        ahead.begin()


def fail_unexpectedly(error: Exception) -> int:
    """A defect of this program: a sentence. Its traceback only where it is asked for, for it may quote the server."""
    import traceback

    at = traceback.extract_tb(error.__traceback__)[-1]
    print(f"this should not have happened: {type(error).__name__} at {at.name}, line {at.lineno}", file=sys.stderr)
    if os.environ.get("VLLM_HTTPS_SETUP_TRACEBACK"):
        traceback.print_exception(error)
    else:
        print("  for a report: sudo VLLM_HTTPS_SETUP_TRACEBACK=1 vllm-https-setup …", file=sys.stderr)
    return 1


def fail_call(words: Sequence[str], command: str, errors: list[dict[str, Any]]) -> int:
    """Exit code 2: the errors as a document where --json was asked for, else as lines."""
    if "--json" in words:
        named = command or next((word for word in words if word in COMMANDS_WITH_REPORT), "")
        streams.print_json(empty_document(named, 2, errors))
        return 2
    for error in errors:
        if not error["key"] and error["line"] is None:
            streams.say(error["message"])
            if error["expected"]:
                streams.say(f"  {error['expected']}")
            continue
        line = f"line {error['line']}: " if error["line"] else ""
        key = f"{error['key']}: " if error["key"] else ""
        expected = f" (right would be: {error['expected']})" if error["expected"] else ""
        streams.say(f"{line}{key}{error['message']}{expected}")
    print("Nothing was changed.", file=sys.stderr)
    return 2


def empty_document(command: str, exit_code: int, errors: list[dict[str, Any]]) -> dict[str, Any]:
    from .mask import Mask
    from .model import Report
    from .report import document_of

    return document_of(Report(command, exit_code, errors=tuple(errors)), Mask())


def error_of(error: SetupError) -> dict[str, Any]:
    return {"line": None, "key": "", "message": error.message, "expected": error.remedy or None}


def with_report(
    options: argparse.Namespace,
    words: Sequence[str],
    make: Callable[[], Document],
    tell: Callable[[Document], None] | None = None,
) -> int:
    """Runs a command that has a report, and prints that as text or JSON, or tells it in the given way."""
    command = str(options.command)
    if os.geteuid() != 0:
        message = f"this needs root: sudo vllm-https-setup {' '.join(words)}"
        return fail_call(words, command, [{"line": None, "key": "", "message": message, "expected": None}])
    # Whatever the caller's mask is: files are made with the modes that we name.
    os.umask(0o022)
    from .answers_file import AnswersError
    from .commands import NoAnswers, Refused
    from .model import SetupError
    from .own_places import refuse_foreign_places
    from .runs import Busy

    try:
        refuse_foreign_places()
        document = make()
    except AnswersError as error:
        return fail_call(words, command, [vars_of(problem) for problem in error.errors])
    except (NoAnswers, Refused) as error:
        return fail_call(words, command, [error_of(error)])
    except SetupError as error:
        return fail(options, 4 if isinstance(error, Busy) else 1, error)
    except (MemoryError, OSError, ImportError, RuntimeError) as error:
        from .shortage import of_error

        if (short := of_error(error)) is None:
            raise
        return fail(options, 1, short)
    if tell is None:
        show(document, as_json=options.json)
    else:
        tell(document)
    return int(document["exit_code"])


def vars_of(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("line", "key", "message", "expected")}


def fail(options: argparse.Namespace, code: int, error: SetupError) -> int:
    if options.json:
        streams.print_json(empty_document(options.command, code, [error_of(error)]))
    else:
        streams.say(error.message)
        if error.remedy:
            streams.say(f"  {error.remedy}")
    return code


def show(document: Document, *, as_json: bool) -> None:
    if as_json:
        streams.print_json(document)
        return
    from .report import Text

    for line in Text(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ).lines(document):
        print(line)


def sudo_uid() -> int | None:
    given = os.environ.get("SUDO_UID", "")
    return int(given) if given.isdigit() else None


def wizard(options: argparse.Namespace, words: Sequence[str]) -> int:
    from .start import start

    return start(options, words)


def plan(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands

    def make() -> Document:
        return commands.plan(commands.read_answers(options.answers, sudo_uid()), detailed=options.detailed_exitcode)

    return with_report(options, words, make)


def apply(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)

    def make() -> Document:
        text = commands.read_answers(options.answers, sudo_uid())
        return commands.apply("apply", text, progress.tell)

    return with_report(options, words, make)


def repair(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)
    return with_report(options, words, lambda: commands.apply("repair", None, progress.tell))


def refresh(options: argparse.Namespace, words: Sequence[str]) -> int:
    """What the unit that watches the certificate's files runs: the tls step alone.

    systemd does not see what becomes of the files while this runs: it looks again until they stay as they were.
    """
    from . import commands, custom
    from .progress import Progress

    progress = Progress(sys.stdout)
    while True:
        before = custom.originals()
        code = with_report(options, words, lambda: commands.apply("repair", None, progress.tell, only=("tls",)))
        if custom.originals() == before:
            return code


def watch(options: argparse.Namespace, words: Sequence[str]) -> int:
    """What the timer of `harden.watch` runs. The journal takes a line's level from its beginning (sd-daemon(3))."""
    from . import watch as room

    levels = {True: "<4>", False: "<5>"} if options.journal else {}

    def make() -> Document:
        room.watch(lambda line, is_bad: print(levels.get(is_bad, "") + line, flush=True), options.pause)
        return empty_document("watch", 0, [])

    return with_report(options, words, make, lambda document: None)


def export(options: argparse.Namespace, words: Sequence[str]) -> int:
    """The script is all that standard output gets; why there is none goes to standard error."""
    from . import commands
    from .report import Text

    options.json = False
    made: list[str] = []

    def make() -> Document:
        text, document = commands.export(commands.read_answers(options.answers, sudo_uid()))
        made.append(text)
        return document

    def tell(document: Document) -> None:
        print(made[0], end="")
        for line in () if made[0] else Text().lines(document):
            print(line, file=sys.stderr)

    return with_report(options, words, make, tell)


def status(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands

    return with_report(options, words, commands.status)


def test(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands

    return with_report(options, words, commands.test)


def rollback(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)
    sure = commands.Sure(options.yes, options.expose, options.keep_bind)
    return with_report(options, words, lambda: commands.rollback(options.run, sure, progress.tell, ask))


def uninstall(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)
    sure = commands.Sure(options.yes, options.expose, options.keep_bind, options.plan, options.purge)
    return with_report(options, words, lambda: commands.uninstall(sure, progress.tell, ask))


def key(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands
    from .new_key import replace_key
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)
    sure = commands.Sure(options.yes)

    def make() -> Document:
        return replace_key(options.answers, options.unit, sudo_uid(), sure, progress.tell, ask)

    return with_report(options, words, make)


def backup(options: argparse.Namespace, words: Sequence[str]) -> int:
    """With - the archive is all that standard output gets."""
    from . import recovery
    from .report import Text

    def tell(document: Document) -> None:
        for line in Text().lines(document):
            print(line, file=sys.stderr)

    to_output = options.file == "-"
    if to_output and (options.json or sys.stdout.isatty()):
        message = "standard output gets the archive, and neither a document nor a terminal: … backup - >FILE"
        return fail_call(words, "backup", [{"line": None, "key": "", "message": message, "expected": None}])
    return with_report(options, words, lambda: recovery.back_up(options.file, sudo_uid()), tell if to_output else None)


def restore(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import commands, recovery
    from .progress import Progress

    progress = Progress(sys.stderr if options.json else sys.stdout)
    sure = commands.Sure(options.yes)
    return with_report(options, words, lambda: recovery.restore(options.file, sudo_uid(), sure, progress.tell, ask))


def ask(document: Document) -> bool:
    """Shows what would be done and asks, on a terminal; without one the answer is no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    show(document, as_json=False)
    return input("Do that? [y/N] ").strip().lower() in ("y", "yes")


def runs(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import history

    return needs_root(words) or history.show_runs()


def log(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import history

    return needs_root(words) or history.show_log(options.run, follow=options.follow)


def needs_root(words: Sequence[str]) -> int:
    """0 where the command can go on: it runs as root, and the program's own directories are root's."""
    if os.geteuid() != 0:
        print("this needs root:", *("sudo vllm-https-setup", *words), file=sys.stderr)
        return 2
    from .own_places import complain

    return complain(streams.say)


def answers(options: argparse.Namespace, words: Sequence[str]) -> int:
    from . import answers as answers_file

    if options.which == "example":
        print(answers_file.example(), end="")
    elif options.which == "schema":
        print(json.dumps(answers_file.schema(), indent=1))
    else:
        try:
            answers_file.load(answers_file.read(options.file, sudo_uid=sudo_uid()))
        except answers_file.AnswersError as error:
            return fail_call(words, "answers", [vars_of(problem) for problem in error.errors])
        print("No errors.")
    return 0


def run(number: str) -> int:
    from .execution import execute

    return execute(number)


ACTIONS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "plan": plan,
    "apply": apply,
    "repair": repair,
    "refresh": refresh,
    "watch": watch,
    "export": export,
    "key": key,
    "backup": backup,
    "restore": restore,
    "rollback": rollback,
    "uninstall": uninstall,
    "status": status,
    "test": test,
    "runs": runs,
    "log": log,
    "answers": answers,
}
