"""T5's layers in a fused pass, which computes linears that share an input together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn

from loraloom.kernels.attention import attend
from loraloom.kernels.gated_gelu import gated_gelu
from loraloom.kernels.norm import norm, norm_and_keep


class FusedNorm(nn.Module):
    """T5's root mean square norm (Zhang & Sennrich, 2019) as one autograd node and, on a GPU, one kernel.

    Args:
        stock: transformers' norm, whose weight parameter is used unchanged.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.weight: nn.Parameter = stock.weight
        self.variance_epsilon: float = stock.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize […, d]."""
        return norm(x, self.weight, self.variance_epsilon)


class FusedFeedForward(nn.Module):
    """T5's gated feed-forward with one kernel between its matrix products.

    Args:
        layer: transformers' layer; its linears and dropout keep their names.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.wi_0, self.wi_1, self.wo, self.dropout = layer.wi_0, layer.wi_1, layer.wo, layer.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Compute [rows, len, d] → [rows, len, d]."""
        inner = gated_gelu(self.wi_0(x), self.wi_1(x))
        return self.wo(self.dropout(inner))  # type: ignore[no-any-return]


def fuse_norms(model: nn.Module) -> None:
    """Replace the norms of a T5-family model with fused ones; the names of weights are unchanged."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("LayerNorm") and hasattr(child, "variance_epsilon"):
                setattr(module, name, FusedNorm(child))


def fuse_layers(model: nn.Module) -> None:
    """Replace norms and gated feed-forwards with fused ones; the names of weights are unchanged.

    Their results agree with those of transformers up to rounding: transformers rounds one more time.

    Args:
        model: a T5-family model to which `fuse_activations` has been applied.
    """
    fuse_norms(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("DenseGatedActDense") and _is_tanh_gelu(child):
                setattr(module, name, FusedFeedForward(child))


def _is_tanh_gelu(layer: Any) -> bool:
    return isinstance(layer.act, nn.GELU) and layer.act.approximate == "tanh"


class Linears(Protocol):
    """A function that computes linears that share an input; see `bank/fused/fused_pass.py`."""

    def __call__(self, modules: Sequence[Any], x: Tensor, residual: Tensor | None = None) -> Sequence[Tensor]:
        """Compute [rows, len, in] → [rows, len, out] for each linear.

        A `residual` is added to the output, and requires a single linear.
        """


@contextmanager
def computing_layers(model: nn.Module, linears: Linears) -> Iterator[None]:
    """Make the layers of T5 and mT5 compute their linears with `linears` during a `with` block.

    Args:
        model: a base's model, whose own dropout is off; layers of other families are left unchanged.
        linears: computes linears that share an input, like `FusedPass.linears`.
    """
    changed = []
    for module in model.modules():
        if (make := _FORWARDS.get(type(module).__name__.removeprefix("M"))) is not None:
            module.forward = make(module, linears)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _self_attention(layer: Any, linears: Linears) -> Callable[..., Any]:
    """Return a `forward` for transformers' T5LayerSelfAttention that uses `linears` and no cache."""
    attention = layer.SelfAttention

    def forward(
        hidden_states: Tensor, attention_mask: Tensor, position_bias: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor | None, None]:
        normed, kept = norm_and_keep(hidden_states, layer.layer_norm)
        q, k, v = linears((attention.q, attention.k, attention.v), normed)
        if position_bias is None:
            position_bias = attention.compute_bias(q.shape[1], k.shape[1], device=q.device)
        states = attend(q, k, v, position_bias, attention_mask, attention.n_heads)
        return linears((attention.o,), states, kept)[0], position_bias, None

    return forward


def _cross_attention(layer: Any, linears: Linears) -> Callable[..., Any]:
    """Return a `forward` for transformers' T5LayerCrossAttention that uses `linears` and no cache."""
    attention = layer.EncDecAttention

    def forward(
        hidden_states: Tensor, key_value_states: Tensor, attention_mask: Tensor, **_: Any
    ) -> tuple[Tensor, None, None]:
        normed, kept = norm_and_keep(hidden_states, layer.layer_norm)
        (q,) = linears((attention.q,), normed)
        k, v = linears((attention.k, attention.v), key_value_states)
        states = attend(q, k, v, None, attention_mask, attention.n_heads)
        return linears((attention.o,), states, kept)[0], None, None

    return forward


def _feed_forward(layer: Any, linears: Linears) -> Callable[[Tensor], Tensor]:
    """Return a `forward` for transformers' T5LayerFF, gated or not, that uses `linears`."""
    dense = layer.DenseReluDense

    def forward(hidden_states: Tensor) -> Tensor:
        normed, kept = norm_and_keep(hidden_states, layer.layer_norm)
        if not hasattr(dense, "wi_0"):
            inner = dense.act(linears((dense.wi,), normed)[0])
        else:
            gate, value = linears((dense.wi_0, dense.wi_1), normed)
            is_fused = isinstance(dense, FusedFeedForward)
            inner = gated_gelu(gate, value) if is_fused else dense.act(gate) * value
        return linears((dense.wo,), inner, kept)[0]

    return forward


_FORWARDS: dict[str, Callable[[Any, Linears], Callable[..., Any]]] = {
    "T5LayerSelfAttention": _self_attention,
    "T5LayerCrossAttention": _cross_attention,
    "T5LayerFF": _feed_forward,
}
