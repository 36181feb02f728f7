"""All presets that a machine has: those that come with the product, and its own in presets.d."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

from internal_puller.settings.nearest import nearest
from internal_puller.settings.presets.file import read_preset
from internal_puller.settings.presets.preset import NAME, Preset
from internal_puller.settings.toml_file import read_toml
from shared.contract.errors import ConfigurationError

DIRECTORY: Final = "presets.d"
"""Beside ``targets.toml``."""
_KNOWN: Final = Path(__file__).with_name("known")
NAMES: Final = tuple(sorted(path.stem for path in _KNOWN.glob("*.toml")))
"""Of the presets that come with the product."""


class Catalogue:
    """Looks presets up by their names.

    Args:
        directory: of a machine's own presets, ``NAME.toml`` each; it may be missing. ``None``:
            only those that come with the product.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._own: dict[str, Preset] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all that there are, those of the product first."""
        if self._directory is None:
            return NAMES
        own = (path.stem for path in self._directory.glob("*.toml"))
        return (*NAMES, *sorted(one for one in own if one not in NAMES and NAME.fullmatch(one)))

    def find(self, name: str) -> Preset:
        """Return a preset. A file in presets.d is read when its preset is used.

        Raises:
            ConfigurationError: there is none of this name (a near one is named); its file
                cannot be used; a file in presets.d has the name of one of the product's.
            LooseFileMode: another account could have changed its file, which names commands.
        """
        if name not in self._own:
            self._own[name] = self._read(name)
        return self._own[name]

    def _read(self, name: str) -> Preset:
        file = None if self._directory is None else self._directory / f"{name}.toml"
        if name in NAMES:
            if file is not None and os.path.lexists(file):
                raise ConfigurationError(
                    f"{file}: there is a preset {name!r} already.",
                    do="Give the file another name, and use that in the targets.",
                )
            return known(name)
        text = read_toml(file) if file is not None and NAME.fullmatch(name) else None
        if text is None:
            raise self._unknown(name)
        return read_preset(str(file), name, text)

    def _unknown(self, name: str) -> ConfigurationError:
        names = self.names()
        return ConfigurationError(
            f"There is no preset {name!r:.60}{nearest(name, names)}.",
            do=f"Use one of {', '.join(names)}.",
        )


@functools.cache
def known(name: str) -> Preset:
    """Return a preset that comes with the product, by one of ``NAMES``."""
    path = _KNOWN / f"{name}.toml"
    return read_preset(str(path), name, path.read_text("utf-8"))


BUILT_IN: Final = Catalogue()


def beside(targets_file: Path) -> Catalogue:
    """Return the catalogue of the machine that has this targets file."""
    return Catalogue(targets_file.parent / DIRECTORY)
