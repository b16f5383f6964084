"""ONNX files of a merged model, in the layout that Optimum and transformers.js read."""
