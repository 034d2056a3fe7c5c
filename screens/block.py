"""A piece of text that is drawn for the width and the height that it has."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

Draw = Callable[[int, int], Content]


class Block(Widget):
    """Draws itself by a function of width and height; `draw_as` gives it another, and repaints only what is new."""

    DEFAULT_CSS = """
    Block { height: auto; width: 1fr; }
    """

    def __init__(self, draw: Draw | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._draw: Draw = draw or (lambda width, height: Content(""))
        self._shown: Content | None = None

    def draw_as(self, draw: Draw) -> None:
        self._draw = draw
        content = self._content()
        if self._shown is None or not content.is_same(self._shown):
            self.refresh(layout=self._is_auto)

    @property
    def _is_auto(self) -> bool:
        height = self.styles.height
        return height is None or height.is_auto

    def _content(self) -> Content:
        height = 10_000 if self._is_auto else self.content_size.height
        return self._draw(max(self.content_size.width, 1), height)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        text = self._draw(max(width, 1), 10_000).plain
        return text.count("\n") + 1 if text else 0

    def render(self) -> Content:
        self._shown = self._content()
        return self._shown
