"""The terminal's keys, as far as they are keys: what a terminal may send besides ends nothing."""

from __future__ import annotations

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """Textual's own ends with a traceback on the screen at the first byte that is no UTF-8."""

    def run_input_thread(self) -> None:
        while True:
            try:
                super().run_input_thread()
            except UnicodeDecodeError:
                # A key of a terminal with another encoding, or a paste of binary data: what came with it is dropped.
                continue
            except OSError:
                # The terminal is gone; the hang-up that comes with that ends the wizard.
                pass
            return
