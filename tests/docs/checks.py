"""docs/checks.md: every finding by its key. Made from the source and from wizard/meanings; `tests/docs/checks` writes
it, and a test compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.docs.findings import levels_by_key
from wizard.explanations import TABLE
from wizard.explanations.terms import Seen
from wizard.meanings import ANY_STEP, MEANINGS, Meaning
from wizard.model import Level
from wizard.steps import STEPS

PAGE = Path(__file__).resolve().parents[2] / "docs/checks.md"
ABOUT = """\
# Checks

Every finding, by the key that screens, text and `--json` show with it. Its text names the case at hand; here is what
it means in general. A level says how it stands:

| level | meaning |
|---|---|
| ok, info | nothing to do |
| warn | goes on; somebody should look |
| drift | is put right by the next run (`sudo vllm-https-setup repair`); a plan shows how |
| blocked | nothing is changed before a person has decided; exit code 3 |

A key in `preflight.accept` of the answers turns its *blocked* into a warning.

This page is made from the source by `tests/docs/checks`, and a test keeps it current.
"""
ROWS_ABOUT = """\
A row of the final test that failed is a finding, too. Its detail is the symptom; below it stand the likeliest cause and
the next command, which come from these tables: the first line that fits is shown. Requests go to the server's own
address and packets come from a network namespace of the server itself: neither meets a provider's firewall, nor DNS.
Where all rows pass and a client still fails, [clients.md](clients.md) goes on from there.
"""
# What stands for the gaps of an explanation.
SAMPLE = Seen(
    host="HOST",
    address="ADDRESS",
    ca_file="/etc/vllm-https-setup/root.crt",
    asked="PATH",
    holder="PROGRAM",
    script="/opt/vllm/start-vllm.sh",
    said="…",
    key_file="the env file",
    listening="ADDRESS:PORT",
    models=("MODEL",),
    wanted="NAME",
    rule="RULE",
)


class NoMeaning(Exception):
    """A finding that wizard/meanings does not know, or words for one that is gone."""


def page() -> str:
    """The whole page."""
    problems = [*missing(), *left_over()]
    if problems:
        raise NoMeaning("\n".join(problems))
    return "\n".join(_lines())


def missing() -> Iterator[str]:
    """What has to be added, as text to paste."""
    known = set(words())
    for key in sorted(levels_by_key()):
        if key not in known:
            step = key.partition(".")[0]
            yield (
                f"{key} has no meaning. Add to MEANINGS in wizard/meanings/{step}.py, then run tests/docs/checks:\n"
                f'    "{key}": Meaning(\n        "What was seen, and why it matters.",\n'
                f'        "What a person does about it (only where it can be warn or blocked).",\n    ),'
            )


def left_over() -> Iterator[str]:
    found = levels_by_key()
    for key, meaning in words().items():
        if key not in found:
            yield f"{key} is no finding any more. Take it out of wizard/meanings/{key.partition('.')[0]}.py"
            continue
        levels = _levels(key, found[key], meaning)
        needs = any(level in ("warn", "blocked") for level in levels) and not key.startswith("https_test.")
        if needs != bool(meaning.todo):
            what = "needs words for what to do" if needs else "never needs a person: what to do is to be left out"
            yield f"{key} is {', '.join(levels)}: it {what} (wizard/meanings/{key.partition('.')[0]}.py)"


def words() -> dict[str, Meaning]:
    """Each key's words; those of any step for each of them."""
    found = {key: meaning for step in MEANINGS.values() for key, meaning in step.items()}
    walked = [step.id for step in STEPS if step.prove is None]
    return found | {f"{step}.{end}": meaning for step in walked for end, meaning in ANY_STEP.items()}


def _levels(key: str, found: Iterable[Level], meaning: Meaning) -> list[str]:
    levels = [str(level) for level in found]
    if not set(meaning.levels) <= set(levels):
        raise NoMeaning(f"{key} can be {', '.join(levels)}, and not {', '.join(meaning.levels)}")
    return [level for level in levels if level in meaning.levels] if meaning.levels else levels


def _lines() -> Iterator[str]:
    found = levels_by_key()
    yield ABOUT
    for step in STEPS:
        yield f"## {step.title} (`{step.id}`)\n"
        yield ROWS_ABOUT if step.prove is not None else f"{step.about}\n"
        for key, meaning in MEANINGS[step.id].items():
            yield from _entry(key, _levels(key, found[key], meaning), meaning)
            if step.prove is not None:
                yield from _causes(key.partition(".")[2])
    yield "## Any step\n"
    for end, meaning in ANY_STEP.items():
        yield from _entry(f"STEP.{end}", [str(level) for level in found[f"{STEPS[0].id}.{end}"]], meaning)


def _entry(key: str, levels: list[str], meaning: Meaning) -> Iterator[str]:
    yield f"### `{key}`\n"
    yield f"*{', '.join(levels)}.* {meaning.means}\n"
    if meaning.todo:
        yield f"**To do:** {meaning.todo}\n"


def _causes(row: str) -> Iterator[str]:
    yield "| symptom | likeliest cause | next |\n|---|---|---|"
    for one in TABLE:
        if row in one.rows:
            cause, command = one.cause.format(seen=SAMPLE), one.command.format(seen=SAMPLE)
            cells = (one.symptom, cause, f"`{command}`" if command else "")
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def main() -> None:
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
