"""Prune, convert, prove and bundle a trained model for devices with no network."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packager.built import Built
    from packager.pipeline import build
    from packager.recipe import Recipe
    from packager.recipe import load as load_recipe
    from packager.target import Target

__all__ = ["Built", "Recipe", "Target", "build", "load_recipe"]

_HOMES = {
    "Built": ("packager.built", "Built"),
    "Recipe": ("packager.recipe", "Recipe"),
    "Target": ("packager.target", "Target"),
    "build": ("packager.pipeline", "build"),
    "load_recipe": ("packager.recipe", "load"),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `import packager` alone stays light."""
    import importlib

    if name not in _HOMES:
        message = f"module 'packager' has no attribute {name!r}"
        raise AttributeError(message)
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
