"""Conclusions from evidence: a ranking, a recommendation, and a sentence for each experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.evaluate.comparison import Evidence
from loraloom.evaluate.statistics import (
    FEWEST_ROWS,
)
from loraloom.run.documents.comparison import (
    BASE_NAME,
    CLEAR,
    DECIDING,
    Movement,
)
from loraloom.text.message import Message
from loraloom.text.units import percent

# Below this, an adapter's ΔW is too small for the precision of W (float32 has seven digits).
UNMOVED = 1e-6


def ranking(evidence: Evidence) -> list[str]:
    """Rank the experiments, best first, by the deciding metric."""
    names = [group for group in evidence.groups if group != BASE_NAME]
    return sorted(names, key=lambda name: -evidence.groups[name][DECIDING].value)


def recommendation(evidence: Evidence, sizes: Mapping[str, int], where: str) -> tuple[str | None, str]:
    """Recommend an experiment and say why; None, with the reason, if no experiment can be recommended.

    That is the case if there are too few rows, if no experiment is significantly better than the base, or if
    there are several experiments and no two of them differ significantly. Otherwise, of the experiments that
    are significantly better than the base and not significantly worse than the best one, the one with the
    smallest adapter is recommended.

    Args:
        sizes: number of weights of each experiment's adapter.
        where: name of the rows, such as `150 test rows`.
    """
    better = {d.model for d in evidence.differences if d.metric == DECIDING and d.verdict == "better"}
    ranked = ranking(evidence)
    candidates = [name for name in ranked if name in better]
    if any(d.verdict == "too few rows" for d in evidence.differences):
        return None, Message(
            "With only {where}, no recommendation is possible; at least {fewest_rows} are needed.",
            where=where,
            fewest_rows=FEWEST_ROWS,
        )
    if not candidates:
        return None, Message("No configuration answers better than the base on {where}.", where=where)
    best = candidates[0]
    rivals = [name for name in ranked if name == best or not _is_clear(evidence, best, name)]
    choice = min((n for n in rivals if n in better), key=lambda name: (sizes[name], ranked.index(name)))
    score, top = (f"{evidence.groups[name][DECIDING].value:.1f}" for name in (choice, best))
    if len(rivals) == 1:
        note = "" if len(ranked) == 1 else Message(", significantly better than every other")
        return choice, Message(
            "Use {choice}: chrF {score} on {where}{note}.", choice=choice, score=score, where=where, note=note
        )
    if not any(pair.verdict in CLEAR for pair in evidence.pairs):
        return None, (
            Message(
                "No configuration is better than another here: on {where}, none of their "
                "differences in chrF is significant. The smallest adapter that answers better than "
                "the base is {choice} (chrF {score}).",
                where=where,
                choice=choice,
                score=score,
            )
        )
    if choice == best:
        others = ", ".join(name for name in rivals if name != choice)
        return choice, (
            Message(
                "Use {choice}: it has the highest chrF ({score}) on {where}, although not "
                "significantly higher than {others}, and no smaller adapter does as well.",
                choice=choice,
                score=score,
                where=where,
                others=others,
            )
        )
    return choice, (
        Message(
            "Use {choice}. On {where} its chrF ({score}) is not significantly below the best, "
            "{best} ({top}), and no smaller adapter does as well.",
            choice=choice,
            where=where,
            score=score,
            best=best,
            top=top,
        )
    )


def _is_clear(evidence: Evidence, best: str, other: str) -> bool:
    pair = next(d for d in evidence.pairs if {d.model, d.against} == {best, other})
    return pair.verdict in CLEAR


def alike(texts: Sequence[Sequence[str]], num_questions: int) -> str:
    """Return a clause about an experiment whose answers are all blank, or all the same; "" for any other.

    Args:
        texts: for each seed of the experiment, the answers of its model.
        num_questions: number of different texts that were answered.
    """
    if not any(text.strip() for own in texts for text in own):
        return Message(", and all of its answers are blank")
    if num_questions > 1 and all(len(set(own)) == 1 for own in texts):
        return Message(", and all of its answers are the same text")
    return ""


def sentence(
    name: str,
    own: Mapping[str, float],
    moved: Sequence[Movement],
    evidence: Evidence | None,
    where: str,
    alike: str = "",
) -> str:
    """Describe the effect of one experiment in a sentence, or state that it had none.

    Args:
        name: name of the experiment.
        own: its figures, averaged over its seeds.
        moved: for each of its adapters, the size of ΔW relative to W.
        evidence: None if there are no references.
        where: name of the rows, such as `150 test rows`.
        alike: result of the function `alike` for its answers.
    """
    loss = _clear_loss(name, evidence)
    if own["share_changed"] == 0:
        return _unchanged(name, max(movement.total for movement in moved), loss, where, alike)
    changed = Message(
        "{share_changed} of its answers differ from the base's{alike}",
        share_changed=percent(own["share_changed"]),
        alike=alike,
    )
    if evidence is None:
        return Message(
            "{name}: {changed} on {where}; without references, it is unknown which answers are better.",
            name=name,
            changed=changed,
            where=where,
        )
    chrf = next(d for d in evidence.differences if d.model == name and d.metric == DECIDING)
    digits = 1 if max(abs(chrf.low), abs(chrf.high)) >= 1 else 2
    middle, low, high = (f"{value:+.{digits}f}" for value in (chrf.difference, chrf.low, chrf.high))
    interval = Message("{middle}, 95 % interval {low} to {high}", middle=middle, low=low, high=high)
    ours, base = (evidence.groups[group][DECIDING].value for group in (name, BASE_NAME))
    verdict = {
        "better": Message("answers better than the base"),
        "worse": Message("answers worse than the base"),
        "no significant difference": Message(
            "shows no significant difference from the base{although}",
            although=Message(" in its answers, although {loss}", loss=loss) if loss else "",
        ),
        "too few rows": Message("cannot be judged on fewer than {fewest_rows} rows", fewest_rows=FEWEST_ROWS),
        "nothing changed": Message("changed nothing"),
    }[chrf.verdict]
    far = Message("‖ΔW‖ is {moved:.2g} of ‖W‖", moved=max(movement.total for movement in moved))
    return Message(
        "{name} {verdict}: chrF {ours:.1f} against {base:.1f} ({interval}) on {where}; {changed} ({far}).",
        name=name,
        verdict=verdict,
        ours=ours,
        base=base,
        interval=interval,
        where=where,
        changed=changed,
        far=far,
    )


def _unchanged(name: str, total: float, loss: str, where: str, alike: str) -> str:
    """Describe an experiment whose answers all equal the base's."""
    how = (
        Message("its ΔW is too small for the precision of W")
        if total < UNMOVED
        else Message("‖ΔW‖ is {total:.2g} of ‖W‖", total=total)
    )
    if loss:
        return Message(
            "{name} changed no answer on {where}{alike}, although {loss} ({how}).",
            name=name,
            where=where,
            alike=alike,
            loss=loss,
            how=how,
        )
    return Message(
        "{name} did nothing: no answer differs from the base's on {where}{alike} ({how}).",
        name=name,
        where=where,
        alike=alike,
        how=how,
    )


def _clear_loss(name: str, evidence: Evidence | None) -> str:
    """State that the loss on the references differs significantly from the base's; "" if it does not."""
    found = [] if evidence is None else evidence.differences
    clear = [d for d in found if d.model == name and d.metric == "eval_loss" and d.verdict in CLEAR]
    if evidence is None or not clear:
        return ""
    ours, base = (evidence.groups[group]["eval_loss"].value for group in (name, BASE_NAME))
    if clear[0].verdict == "better":
        return Message(
            "its loss on the references is significantly lower ({ours:.3f} against {base:.3f})",
            ours=ours,
            base=base,
        )
    return Message(
        "its loss on the references is significantly higher ({ours:.3f} against {base:.3f})",
        ours=ours,
        base=base,
    )
