"""Recipes: what to do, as settings and as YAML.

`settings` and the files named after the other sections define names, defaults, bounds and help, and `schema`
combines them; `reading` and `writing` convert from and to YAML. The first line of every other file says what
it is for.
"""

from loraloom.recipe.data_settings import DataSettings
from loraloom.recipe.experiments import EXPERIMENT_NAME, is_experiment_name
from loraloom.recipe.generation_settings import GenerationSettings
from loraloom.recipe.lora_settings import LoraSettings
from loraloom.recipe.relative_paths import Section
from loraloom.recipe.schema import Experiment, Recipe
from loraloom.recipe.settings import TrainingSettings
from loraloom.recipe.shared_training import SHARED_TRAINING_KEYS, SharedTraining

__all__ = [
    "EXPERIMENT_NAME",
    "SHARED_TRAINING_KEYS",
    "DataSettings",
    "Experiment",
    "GenerationSettings",
    "LoraSettings",
    "Recipe",
    "Section",
    "SharedTraining",
    "TrainingSettings",
    "is_experiment_name",
]
