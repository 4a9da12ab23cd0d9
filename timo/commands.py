"""Parts that commands share: options that are fields of a dataclass, and what the exit code says."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from timo.cancel import CancelledError
from timo.errors import TimoError


def add_fields(parser: Any, defaults: Any, help_texts: Mapping[str, str]) -> None:
    """Add to a parser an option for each field of the dataclass `defaults` that has a help text under its name.

    The annotations say what is read.
    """
    hints = get_type_hints(type(defaults))
    for name, text in help_texts.items():
        default, hint = getattr(defaults, name), hints[name]
        # Of "int | None", what is not None.
        kinds = {int, float} & {hint, *get_args(hint)}
        shown = text if default is None else f"{text} (default: %(default)s)"
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kinds.pop() if kinds else str, default=default, help=shown)


def run_command(run: Callable[[], int]) -> int:
    """Run a command, and return its exit code: 2 where something given was wrong, 130 if it was interrupted."""
    try:
        return run()
    except TimoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 130 if isinstance(error, CancelledError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what is complete is kept; the same command resumes\n")
        return 130
