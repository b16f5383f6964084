"""Resolution of target names to linears; a name that matches nothing is an error.

PEFT adapts what it finds and raises an error only if *nothing* matches, so one wrong name in a list goes
unnoticed (measured with peft 0.21: the names of T5 1.0 on mT5 adapt only 28 of 36 linears, silently).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from loraloom.architectures.family import Family
from loraloom.architectures.place import Place
from loraloom.base.frozen_linear import FrozenLinear, frozen_linear, is_linear
from loraloom.data.batches import Side
from loraloom.errors import Problem, TargetError
from loraloom.recipe.module_names import ALL_LINEAR, parse_target
from loraloom.text.message import Message, joined


@dataclass(frozen=True)
class Target:
    """A linear that can carry an adapter.

    Args:
        name: its path in the model.
        module: the module of the frozen linear; `linear` gives access to its weights.
        place: its position in the model, and its role.
        sides: for each time that a pass uses it, whether its inputs are source or target tokens.
    """

    name: str
    module: nn.Module
    place: Place
    sides: tuple[Side, ...]

    @property
    def linear(self) -> FrozenLinear:
        """The linear as a `FrozenLinear`, to read its sizes and weights."""
        return frozen_linear(self.module)

    @property
    def suffix(self) -> str:
        """The last part of its path, which is its name in PEFT's target lists."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Match:
    """The linears that one pattern of `target_modules` matches.

    Args:
        pattern: as written.
        targets: the linears.
        own_name: the base's own name for them, if the pattern is a name from other families; otherwise "".
    """

    pattern: str
    targets: tuple[Target, ...]
    own_name: str = ""


def linears(model: nn.Module, family: Family) -> list[Target]:
    """List every linear of encoder and decoder, in the model's order, without the output head."""
    found = ((name, module) for name, module in model.named_modules() if is_linear(module))
    return [
        Target(name, module, place, family.sides(place))
        for name, module in found
        if (place := family.place(name)) is not None
    ]


def other_linears(model: nn.Module, family: Family) -> list[str]:
    """List every linear outside the layers, such as the output head or the linears of a vision tower."""
    found = (name for name, module in model.named_modules() if is_linear(module))
    return [name for name in found if not family.is_in_layer(name)]


def resolve_targets(
    model: nn.Module,
    family: Family,
    target_modules: str | Sequence[str],
    *,
    key: str = "lora.target_modules",
    available: Sequence[Target] | None = None,
) -> tuple[Match, ...]:
    """Find the linears that each pattern matches.

    Args:
        model: the base.
        family: family of the base.
        target_modules: `all-linear`, names as in PEFT's lists (the end of a path, after a dot), or one
            regular expression over whole paths; each may begin with `encoder:`, `decoder:` or
            `cross:`, which limits it to that part (`decoder:` includes the cross-attention).
        key: name of the setting in messages.
        available: what `linears` lists for this model, if it is known.

    Raises:
        TargetError: a pattern matches no linear, names the embeddings or the head, or is not a regular
            expression. The error lists all such patterns, with the names that the model has instead.
    """
    available = linears(model, family) if available is None else available
    is_expression = isinstance(target_modules, str)
    patterns = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    matches, problems = [], []
    for pattern in patterns:
        try:
            parsed = parse_target(pattern)
        except ValueError as error:  # an adapter's configuration is not validated as a recipe is
            problems.append(Problem(Message("`{pattern}` {error}", pattern=pattern, error=error), where=key))
            continue
        place, bare = parsed.scope, parsed.pattern
        within = [target for target in available if _is_within(target, place)]
        try:
            found = _matching(within, bare, is_expression)
            own_name = "" if found or is_expression else _own_name(bare, family)
            if own_name:
                found = _matching(within, own_name, is_expression)
        except re.error as error:
            problems.append(
                Problem(
                    Message("`{bare}` is not a regular expression: {error}", bare=bare, error=error),
                    where=key,
                )
            )
            continue
        if found:
            matches.append(Match(pattern, tuple(found), own_name))
        else:
            problems.append(_no_match(model, family, bare, place, within, patterns, key))
    if problems:
        raise TargetError(problems)
    return tuple(matches)


def _is_within(target: Target, scope: str) -> bool:
    return not scope or scope in (target.place.stack, target.place.part)


def _matching(targets: list[Target], pattern: str, is_expression: bool) -> list[Target]:
    if pattern == ALL_LINEAR:
        return targets
    if is_expression:
        expression = re.compile(pattern)
        return [target for target in targets if expression.fullmatch(target.name)]
    return [target for target in targets if target.name == pattern or target.name.endswith(f".{pattern}")]


def _own_name(name: str, family: Family) -> str:
    """Translate a name from other families into this family's own name; "" if it has no translation."""
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}{family.aliases[last]}" if last in family.aliases else ""


def _no_match(
    model: nn.Module,
    family: Family,
    pattern: str,
    place: str,
    within: list[Target],
    patterns: list[str],
    key: str,
) -> Problem:
    """Say that a pattern matches nothing, what the model has, and which setting was probably meant."""
    suffixes = sorted({target.suffix for target in within})
    name = getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__
    base_name = name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".")) else name
    part = Message("the {place} of {base_name}", place=place, base_name=base_name) if place else base_name
    others = [
        path
        for path, _ in model.named_modules()
        if (path == pattern or path.endswith(f".{pattern}")) and not family.is_in_layer(path)
    ]
    if others:
        return Problem(
            Message(
                "`{pattern}` is the embedding, the output head or another module that LoRALoom "
                "does not adapt ({others})",
                pattern=pattern,
                others=others[0],
            ),
            where=key,
            allowed=", ".join([*suffixes, ALL_LINEAR]),
            fix=Message("Leave it out."),
        )
    bare = pattern.removesuffix("_proj")  # as LLaMA and BART call what T5 calls q
    near = [s for s in suffixes if s.startswith(f"{pattern}_") or s.removesuffix("_proj") == bare]
    near = near or difflib.get_close_matches(pattern, suffixes, n=1)
    kind = family.remark(pattern, suffixes)
    has = (
        Message("It has {near}", near=joined(" and ", near))
        if near
        else Message("It has {suffixes}", suffixes=", ".join(suffixes))
    )
    prefix = f"{place}:" if place else ""
    if not within:
        what = Message(
            "`{prefix}{pattern}` matches no linear: {base_name} has none in its {place}{kind}",
            prefix=prefix,
            pattern=pattern,
            base_name=base_name,
            place=place,
            kind=kind,
        )
        return Problem(
            what, where=key, fix=Message("Set encoder:{pattern} or decoder:{pattern}.", pattern=pattern)
        )
    meant = []
    for other in patterns:
        if other == f"{prefix}{pattern}":
            meant += [f"{prefix}{suffix}" for suffix in near]
        else:
            meant.append(other)
    better = (
        Message(
            "Set target_modules: [{meant}], or {all_linear}.", meant=", ".join(meant), all_linear=ALL_LINEAR
        )
        if near
        else Message("Set target_modules: {all_linear}.", all_linear=ALL_LINEAR)
    )
    return Problem(
        Message(
            "`{prefix}{pattern}` matches no linear of {part}{kind}. {has}",
            prefix=prefix,
            pattern=pattern,
            part=part,
            kind=kind,
            has=has,
        ),
        where=key,
        fix=better,
    )


def unique_targets(matches: Sequence[Match]) -> tuple[Target, ...]:
    """Return the linears that any of the patterns matches, each once."""
    return tuple({target.name: target for match in matches for target in match.targets}.values())


def peft_target_modules(
    adapted: Sequence[str], available: Sequence[Target], others: Iterable[str] = ()
) -> list[str]:
    """Return the shortest target list with which PEFT finds exactly these linears.

    It lists last parts of names if every linear with such a last part is adapted, otherwise whole paths.

    Args:
        adapted: paths of the adapted linears.
        available: every linear that can be adapted.
        others: names of the base's other linears, which PEFT finds too.
    """
    chosen = set(adapted)
    suffixes = {name.rpartition(".")[2] for name in chosen}
    names = (*(target.name for target in available), *others)
    all_named_so = {name for name in names if name.rpartition(".")[2] in suffixes}
    return sorted(suffixes if all_named_so == chosen else chosen)


def target_setting(adapted: Sequence[str], available: Sequence[Target]) -> str:
    """Return the shortest value of `lora.target_modules` that matches exactly these linears, as YAML.

    Returns:
        `all-linear`, a list of last parts of names, a regular expression for whole layers, or a list of
        paths.
    """
    chosen = set(adapted)
    if chosen == {target.name for target in available}:
        return ALL_LINEAR
    names = peft_target_modules(adapted, available)
    if not chosen.issubset(names):
        return f"[{', '.join(names)}]"
    expression = _expression_for(chosen)
    matched = {target.name for target in available if re.fullmatch(expression, target.name)}
    return f"'{expression}'" if matched == chosen else f"[{', '.join(names)}]"


def _expression_for(names: set[str]) -> str:
    """Return a regular expression for linears in some layers, with names like `encoder.layers.0.mlp.up`."""
    split = [found.groups() for found in (re.match(r"(.+?\.\d+)\.(.+)", name) for name in names) if found]
    levels = zip(*(layer.split(".") for layer, _ in split), strict=False)
    between = r"\..*\." if all("." in within for _, within in split) else r"\.(?:.*\.)?"
    before = r"\.".join(_any_of(sorted(set(level))) for level in levels)
    ends = sorted({name.rpartition(".")[2] for name in names})
    return f"{before}{between}{_any_of(ends)}"


def _any_of(choices: Sequence[str]) -> str:
    escaped = [re.escape(choice) for choice in choices]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
