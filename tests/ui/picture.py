"""A screen as a picture: SVG in a terminal's colours, dark or light, with no font to be fetched."""

from __future__ import annotations

import io

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from screens.app import WizardApp

DARK = TerminalTheme(
    (24, 26, 31),
    (212, 215, 221),
    [
        *((24, 26, 31), (232, 112, 112), (126, 200, 128), (226, 184, 92)),
        *((110, 160, 230), (190, 140, 220), (86, 190, 200), (200, 204, 210)),
    ],
    [
        *((110, 116, 128), (240, 140, 140), (150, 220, 150), (240, 205, 130)),
        *((140, 185, 245), (210, 165, 235), (120, 215, 222), (240, 242, 246)),
    ],
)
LIGHT = TerminalTheme(
    (252, 252, 250),
    (40, 44, 52),
    [
        *((40, 44, 52), (196, 42, 42), (34, 128, 52), (150, 104, 0)),
        *((30, 90, 180), (130, 60, 160), (0, 128, 144), (120, 124, 132)),
    ],
    [
        *((120, 124, 132), (210, 60, 60), (50, 150, 70), (170, 120, 10)),
        *((50, 110, 200), (150, 80, 180), (20, 150, 165), (252, 252, 250)),
    ],
)
FORMAT = """\
<svg class="rich-terminal" xml:space="preserve" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw(app: WizardApp, theme: TerminalTheme = DARK) -> str:
    """The app's screen of this moment."""
    width, height = app.size
    console = Console(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        record=True,
        legacy_windows=False,
        safe_box=False,
        _environ={},
    )
    console.print(app.screen._compositor.render_update(full=True, screen_stack=app._background_screens))
    return console.export_svg(title="vllm-https-setup", theme=theme, code_format=FORMAT, unique_id="screen")


def words(app: WizardApp) -> list[str]:
    """The lines of the screen as text."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]
