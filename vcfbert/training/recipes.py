"""Finds the recipe of a variant by the variant's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vcfbert.config import Config
from vcfbert.model.base import Variant
from vcfbert.training.hmm_recipe import HmmRecipe
from vcfbert.training.network_recipe import LearnedRetrievalRecipe, NetworkRecipe
from vcfbert.training.recipe import Recipe

_RECIPES: dict[str, Callable[[Any, Config], Recipe]] = {
    "v17": lambda _, config: NetworkRecipe(config),
    "v18": LearnedRetrievalRecipe,
    "v19": HmmRecipe,
}


def recipe_of(model: Variant, config: Config) -> Recipe:
    """A new recipe for training ``model``."""
    return _RECIPES[model.name](model, config)
