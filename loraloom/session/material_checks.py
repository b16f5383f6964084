"""Checks before the first training step: on the base, the rows and the adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loraloom.base.loading import Base
from loraloom.checks.allowances import apply_allowed
from loraloom.checks.data.data_suite import run_token_checks
from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.checks.model_suite import BEFORE_TRAINING, ModelCheck
from loraloom.recipe import Experiment
from loraloom.session.data_checks import DataCheckReport
from loraloom.session.material import Material


def check_material(
    material: Material,
    of_data: DataCheckReport,
    *,
    experiments: Sequence[Experiment] | None = None,
) -> list[Finding]:
    """Return all findings: on data, on the model, and on tokens if the token checks waited for the base.

    Args:
        material: the base, and encoded rows.
        of_data: result of the data checks.
        experiments: experiments to check; by default all experiments of the material.
    """
    late = _late_token_checks(of_data.seen, material.base)
    chosen = material.experiments if experiments is None else experiments
    of_model = run_model_checks(material, chosen, BEFORE_TRAINING)
    return [*of_data.findings, *apply_allowed(late, of_data.allowed), *of_model]


def run_model_checks(
    material: Material, experiments: Sequence[Experiment], checks: Sequence[ModelCheck]
) -> list[Finding]:
    """Run checks of the model on encoded rows and on the adapters that training would start with."""
    return run_gate(
        material.base,
        experiments,
        material.initial,
        material.train_set,
        packing=material.recipe.training.packing,
        checks=checks,
        generation=material.recipe.generation,
    )


def _late_token_checks(seen: DataView, base: Base) -> list[Finding]:
    if seen.tokenizer is not None:
        return []
    start = None
    if not base.family.ends_sources:
        start = str(base.tokenizer.convert_ids_to_tokens(base.start_token_id))
    own = TextTokenizer.of_transformers(base.tokenizer, start)
    return run_token_checks(replace(seen, tokenizer=own))
