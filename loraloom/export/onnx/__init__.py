"""ONNX files of a merged model in the layout that Optimum, transformers.js and onnxruntime's users read."""
