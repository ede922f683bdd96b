"""Prune, convert, prove and bundle a trained model for devices with no network."""

from packager.pipeline import Built, build
from packager.recipe import Recipe
from packager.recipe import load as load_recipe
from packager.target import Target

__all__ = ["Built", "Recipe", "Target", "build", "load_recipe"]
