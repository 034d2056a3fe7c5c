"""The answers, or the plan as a script, into a file that a person names."""

from __future__ import annotations

import os
from collections.abc import Callable

from .draft import Draft
from .gateway import Gateway
from .model import SetupError
from .plain_lines import Teller


def offer_save(teller: Teller, gateway: Gateway, draft: Draft) -> None:
    """Asks where, and saves the answers there. Raises Back and Quit."""

    def write(path: str) -> None:
        gateway.write(path, draft.dump().decode())

    _offer(teller, "answers.yaml", write, "the answers are saved where you say")


def offer_export(teller: Teller, gateway: Gateway, draft: Draft) -> None:
    """Asks where, and writes the plan there as a script. Raises Back and Quit."""

    def write(path: str) -> None:
        gateway.write(path, gateway.export(draft))

    _offer(teller, "vllm-https-setup.sh", write, "the script is written where you say; read it before you run it")


def _offer(teller: Teller, name: str, write: Callable[[str], None], what: str) -> None:
    def explain() -> None:
        teller.say(f"{what}. b = back.")

    typed = teller.ask(f"Into which file? [{name}]", explain)
    try:
        path = os.path.abspath(os.path.expanduser(typed or name))
    except OSError:  # the directory that this was started in is gone
        path = os.path.normpath(os.path.join("/", os.path.expanduser(typed or name)))
    if os.path.lexists(path) and not teller.is_sure(f"{path} is there already. Replace it?", explain):
        return
    try:
        write(path)
    except (OSError, SetupError) as error:
        teller.say(f"{path} could not be written: {error.strerror if isinstance(error, OSError) else error.message}")
    else:
        teller.say(f"Written: {path}")
