"""The call: commands and options, and which of them go together."""

from __future__ import annotations

import argparse
from typing import NoReturn

from . import __version__

SCENES = ("fresh", "exposed", "drifted", "blocked", "broken")


class Usage(Exception):
    """The call is wrong: exit code 2."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message}. See: {self.prog} --help")


def build_parser() -> Parser:
    parser = Parser(
        prog="vllm-https-setup",
        description="From an exposed vLLM server to a proven HTTPS endpoint. Without a command: the wizard.",
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    wizard = parser.add_argument_group("the wizard")
    wizard.add_argument(
        "--plain", action="store_true", help="line by line: dumb terminal, serial console, screen reader"
    )
    scenes = ", ".join(SCENES)
    wizard.add_argument(
        "--demo",
        nargs="?",
        const=SCENES[0],
        choices=SCENES,
        metavar="SCENE",
        help=f"on a simulated server, without root and without a change: {scenes}",
    )
    wizard.add_argument(
        "--answers", dest="start_answers", metavar="F", help="begin with the answers of this file filled in"
    )
    wizard.add_argument("--mouse", action="store_true", help="also take the mouse, which then can't select text")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, words: str, *, json_too: bool = True) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words)
        if json_too:
            added.add_argument("--json", action="store_true", help="one JSON document on standard output")
        return added

    answers_help = "the answers file; - is standard input"
    plan = command("plan", "show what apply would do; changes nothing")
    plan.add_argument("--answers", metavar="F", help=f"{answers_help} (default: the saved answers)")
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 6 where the plan has changes")
    apply = command("apply", "set this server up, unattended")
    apply.add_argument("--answers", metavar="F", required=True, help=answers_help)
    command("repair", "apply with the saved answers")
    export = command("export", "the plan as a readable shell script; changes nothing", json_too=False)
    export.add_argument("--answers", metavar="F", required=True, help=answers_help)
    command("status", "findings and the final test; changes nothing")
    command("test", "the final test alone")
    rollback = command("rollback", "undo one run")
    rollback.add_argument("run", nargs="?", metavar="RUN", help="default: the last")
    uninstall = command("uninstall", "undo what this program changed, and nothing else")
    uninstall.add_argument("--plan", action="store_true", help="show it; changes nothing")
    uninstall.add_argument("--purge", action="store_true", help="also Caddy's certificates and its own CA")
    for one in (rollback, uninstall):
        one.add_argument("--yes", action="store_true", help="do not ask")
        bind = one.add_mutually_exclusive_group()
        bind.add_argument("--expose", action="store_true", help="also where that opens vLLM to the network again")
        bind.add_argument("--keep-bind", action="store_true", help="leave vLLM bound to 127.0.0.1")
    key = command("key", "vLLM's API key", json_too=False)
    new = key.add_subparsers(dest="which", metavar="WHICH", required=True, parser_class=Parser).add_parser(
        "new",
        help="make one, in the place of the old one where there is one",
        description="Makes an API key, writes it into vLLM's env file, restarts vLLM and proves that the new key opens "
        "/v1 and the old one does not. It is shown nowhere; the report says how to read it.",
    )
    new.add_argument("--answers", metavar="F", help=f"{answers_help} (default: the saved ones, or none)")
    new.add_argument("--unit", default="", metavar="UNIT", help="of vllm.more, whose key it is (default: vllm.unit)")
    new.add_argument("--yes", action="store_true", help="do not ask")
    new.add_argument("--json", action="store_true", help="one JSON document on standard output")
    backup = command("backup", "the answers, and the keys and certificates that clients trust, as one archive")
    backup.add_argument("file", metavar="FILE", help="root's alone, for it holds private keys; - is standard output")
    restore = command("restore", "set a fresh server up from such an archive: clients need to change nothing")
    restore.add_argument("file", metavar="FILE", help="the archive; - is standard input")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    command("runs", "earlier runs", json_too=False)
    log = command("log", "every command of a run, with its output", json_too=False)
    log.add_argument("run", nargs="?", metavar="RUN", help="default: the last")
    log.add_argument("--follow", action="store_true", help="go on while the run is under way")
    answers = command("answers", "the answers file", json_too=False)
    which = answers.add_subparsers(dest="which", metavar="WHICH", required=True, parser_class=Parser)
    which.add_parser("example", help="an annotated answers file")
    which.add_parser("schema", help="its JSON Schema")
    check = which.add_parser("check", help="all its errors at once")
    check.add_argument("file", metavar="F", help=answers_help)
    # What units execute is not for people: without help it is left out of --help.
    for hidden in ("refresh", "watch"):
        commands.add_parser(hidden).add_argument("--json", action="store_true")
    commands.choices["watch"].add_argument("--pause", type=float, default=20, metavar="SECONDS")
    commands.choices["watch"].add_argument("--journal", action="store_true")
    return parser


def check_together(options: argparse.Namespace) -> None:
    """Raises Usage where options that are each right cannot be together."""
    given = {"--plain": options.plain, "--demo": options.demo, "--answers": options.start_answers}
    named = [name for name, value in {**given, "--mouse": options.mouse}.items() if value]
    if options.command is not None and named:
        raise Usage(f"{named[0]} stands before {options.command}, and is the wizard's. See: vllm-https-setup --help")
    if options.demo is not None and options.start_answers is not None:
        raise Usage("--answers is about this server, and --demo about none. See: vllm-https-setup --help")
