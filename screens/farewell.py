"""What stands on the terminal after the wizard has left it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import WizardApp


def words_after(wizard: WizardApp) -> str:
    """What the end of the wizard leaves, and what to type next."""
    from wizard import clients

    from .summary import SummaryPage

    if wizard.gateway.is_demo:
        return "That was the demo: nothing was changed. On a server: sudo vllm-https-setup"
    if isinstance(wizard.page, SummaryPage):
        return clients.text(wizard.summary)
    if wizard.run_id is not None and wizard.report is None and wizard.run_state.exit_code is None:
        return f"Run {wizard.run_id} goes on. sudo vllm-https-setup shows it again."
    if wizard.report is not None:
        code = wizard.report["exit_code"]
        said = "It ended well." if code == 0 else "It did not succeed; the next start goes on from there."
        return f"{said} Its log: {wizard.report['log_path']}"
    if wizard.opening is not None and wizard.opening.was_set_up:
        return "Nothing was changed."
    return "Nothing was changed. Your answers are kept: sudo vllm-https-setup goes on from there."


def report_crash(error: BaseException, *, demo: bool) -> str:
    """Writes the traceback, without its locals, where only root reads it; returns the sentence for people."""
    text = "".join(traceback.format_exception(error))
    kept = ""
    if not demo:
        from wizard import files, paths
        from wizard.model import SetupError

        try:
            files.make_directories(paths.LOG, 0o750)
            files.write(f"{paths.LOG}/wizard.log", text.encode(), mode=0o600)
            kept = f" The details are in {paths.LOG}/wizard.log."
        except SetupError:
            kept = ""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"This should not have happened: {type(error).__name__} at {at.name}, line {at.lineno}.{kept}\n"
        "A run that was under way goes on. Start again: sudo vllm-https-setup"
    )
