"""All variants of LoRA, as the settings that ask for them."""

from __future__ import annotations

from typing import Any

# A softmax ignores what is added to all its inputs, so a bias of `k` has no gradient but rounding errors.
WITHOUT_KEYS = r".*\.(q|v|wi_0|wo|q_proj|v_proj|fc1|fc2)"
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plus": {"loraplus_lr_ratio": 8},
    "dora": {"use_dora": True},
    "dora-undropped": {"use_dora": True, "lora_dropout": 0.0, "loraplus_lr_ratio": 2},
    "bias": {"lora_bias": True, "loraplus_lr_ratio": 2, "target_modules": WITHOUT_KEYS},
    "tokens": {"trainable_token_indices": list(range(5, 90, 2))},
    "norms": {"modules_to_save": ["layer_norm"], "loraplus_lr_ratio": 2},
    "fa": {"use_lorafa": True},
    "pissa": {"init_lora_weights": "pissa", "alpha_pattern": {"q": 3}},
    "pissa-niter": {"init_lora_weights": "pissa_niter_4", "use_rslora": True, "lora_dropout": 0.0},
    "olora": {"init_lora_weights": "olora"},
    "patterns": {"rank_pattern": {"q": 6}, "alpha_pattern": {"wo": 4}, "layers_to_transform": [1]},
}
