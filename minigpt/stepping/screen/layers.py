"""The tree of a model's paths in the full-screen view."""

from collections.abc import Iterator
from typing import Any

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from minigpt.stepping.screen.messages import View


class Layers(Tree[str]):
    """The paths of a model, each with its share of the FLOP so far; Enter runs to one."""

    ICON_NODE, ICON_NODE_EXPANDED = "▸ ", "▾ "
    SHARE = 7  # columns of a percentage

    def __init__(self, **options: Any) -> None:
        self._by_path: dict[str, TreeNode[str]] = {}
        self._below = {"": 0}
        self._most = 1
        self._here = ""
        super().__init__("", **options)
        self.show_root, self.guide_depth, self.auto_expand = False, 2, False
        self.show_guides = False

    def grow(self, paths: list[str]) -> None:
        """Takes the paths that there are."""
        for path in filter(None, paths):
            self._grown(path)

    def _grown(self, path: str) -> TreeNode[str]:
        """The node of a path, made with all above it if there was none."""
        if path in self._by_path:
            return self._by_path[path]
        parent, name = _split(path)
        above = self._grown(parent) if parent else self.root
        above.allow_expand = True
        node = self._by_path[path] = above.add(name, data=path, allow_expand=False)
        return node

    def show(self, view: View) -> None:
        """Costs, with all that is above where it stands opened, and nothing else."""
        self._below = {"": sum(view.paths.values())}
        for path, cost in view.paths.items():
            for above in _upwards(path):
                self._below[above] = self._below.get(above, 0) + cost
        self._here = view.state.path
        self.grow([self._here, *view.paths])
        self._most = max(
            (self._below.get(str(top.data), 0) for top in self.root.children), default=0
        )
        opened = set(_upwards(self._here))
        for path, node in self._by_path.items():
            if path in opened:
                node.expand()
            else:
                node.collapse()
            node.refresh()
        self.call_after_refresh(self._follow)

    def _follow(self) -> None:
        if self._here in self._by_path:
            self.move_cursor(self._by_path[self._here])
            line = self._by_path[self._here].line
            self.scroll_to(y=line - self.content_size.height // 2, animate=False)

    def render_label(self, node: TreeNode[str], base_style: Style, style: Style) -> Text:
        path = node.data or ""
        share = self._below.get(path, 0) / (self._below[""] or 1)
        mark = "  "
        if node.allow_expand:
            mark = self.ICON_NODE_EXPANDED if node.is_expanded else self.ICON_NODE
        width, depth = self.content_size.width, len([*_upwards(path)]) - 1
        bar = width // 4
        room = width - self.guide_depth * depth - bar - self.SHARE
        name = Text(f"{mark}{node.label}", style="bold" if path == self._here else "")
        name.truncate(max(room, 1), overflow="ellipsis", pad=True)
        said = f"{share:{self.SHARE}.1%}" if path in self._below else f"{'·':>{self.SHARE}}"
        full = self._below.get(path, 0) / (self._most or 1)
        return Text.assemble(name, _bar(full, bar), said, style=style)


def _split(path: str) -> tuple[str, str]:
    """What a path lies in and its name there, where `h.3` is one name."""
    parent, _, name = path.rpartition(".")
    if name.isdigit():
        parent, _, of = parent.rpartition(".")
        name = f"{of}.{name}"
    return parent, name


def _upwards(path: str) -> Iterator[str]:
    """A path and all that it lies in, from the inside out."""
    while path:
        yield path
        path = _split(path)[0]


def _bar(share: float, width: int) -> str:
    full, eighths = divmod(max(round(share * width * 8), 1 if share else 0), 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[eighths] if eighths else "")).ljust(width)
