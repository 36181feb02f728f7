"""Options that several commands take alike, declared once as the fields of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints


def taking(
    options_type: type, **shown: object
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command have one option for each field of a dataclass.

    Args:
        options_type: its fields are annotated as options; the command is given one as ``options``.
        shown: defaults that differ from none.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(options_type, include_extras=True)
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=shown.get(name),
                annotation=hints[name],
            )
            for name in (one.name for one in fields(options_type))
        ]
        own = inspect.signature(command, eval_str=True).parameters.values()

        def called(**given: Any) -> None:
            found = {one.name: given.pop(one.name) for one in options}
            command(**given, options=options_type(**found))

        called.__doc__ = command.__doc__
        called.__annotations__ = {}
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(one for one in own if one.name != "options"), *options]
        )
        return called

    return decorate
