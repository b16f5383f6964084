"""GGUF files for llama.cpp: a merged model, or an adapter alone; written with the package `gguf`."""
