"""What to do: a recipe's settings, and its YAML.

`settings` is the one home of names, defaults, bounds and help, `document` puts them together; `file` reads
and writes YAML. The rest serves reading: each file says in its first line which step of it is its own.
"""

from loraloom.recipe.experiments import EXPERIMENT_NAME, RESERVED_EXPERIMENT_NAMES
from loraloom.recipe.schema import Experiment, Recipe
from loraloom.recipe.section import Section
from loraloom.recipe.settings import (
    DataSettings,
    GenerationSettings,
    LoraSettings,
    TrainingSettings,
)
from loraloom.recipe.shared_training import SHARED_TRAINING_KEYS, SharedTraining

__all__ = [
    "EXPERIMENT_NAME",
    "RESERVED_EXPERIMENT_NAMES",
    "SHARED_TRAINING_KEYS",
    "DataSettings",
    "Experiment",
    "GenerationSettings",
    "LoraSettings",
    "Recipe",
    "Section",
    "SharedTraining",
    "TrainingSettings",
]
