"""What stands on the terminal after the wizard has left it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import WizardApp


def words_after(wizard: WizardApp) -> str:
    """What the end of the wizard leaves, and what to type next."""
    from wizard import clients

    from .drawing import clean
    from .summary import SummaryPage

    if wizard.gateway.is_demo:
        return "That was the demo: nothing was changed. On a server: sudo vllm-https-setup"
    if isinstance(wizard.page, SummaryPage):
        kept = f"\n# All of this is kept in {wizard.kept_at}" if wizard.kept_at else ""
        return clean(clients.text(wizard.summary)) + kept
    if wizard.was_killed:
        return f"Run {wizard.run_id} was killed before its end. sudo vllm-https-setup completes it."
    if wizard.run_id is not None and wizard.report is None and wizard.run_state.exit_code is None:
        return f"Run {wizard.run_id} goes on. sudo vllm-https-setup shows it again."
    if wizard.report is not None:
        code = wizard.report["exit_code"]
        said = "It ended well." if code == 0 else "It did not succeed; the next start goes on from there."
        return f"{said} Its log: {wizard.report['log_path']}"
    if wizard.opening is not None and wizard.opening.was_set_up:
        return "Nothing was changed."
    if wizard.not_kept:
        return f"Nothing was changed. Your answers could not be kept: {clean(wizard.not_kept)}"
    return "Nothing was changed. Your answers are kept: sudo vllm-https-setup goes on from there."


def words_of_defect(wizard: WizardApp, error: BaseException) -> str:
    """The sentence for people. The traceback, without its locals, goes where root alone reads it."""
    kept = wizard.gateway.note_defect("".join(traceback.format_exception(error)))
    at = traceback.extract_tb(error.__traceback__)[-1]
    more = f" The details are in {kept}." if kept else ""
    return (
        f"This should not have happened: {type(error).__name__} at {at.name}, line {at.lineno}.{more}\n"
        "A run that was under way goes on. Start again: sudo vllm-https-setup"
    )
