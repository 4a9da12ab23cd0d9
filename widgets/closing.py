"""Closing a widget with all that belongs to it; see `style.close_tree`."""

from .style import close_tree

__all__ = ["close_tree"]
