"""Names of the files of a GGUF export."""

MODEL, ADAPTER = "model.gguf", "adapter.gguf"
