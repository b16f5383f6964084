"""Many LoRA adapters on one frozen encoder-decoder, in one pass."""
