"""A detector that ONNX Runtime runs, without PyTorch.

`export` writes a folder, `detector` scores by what is in it, `settings` is what else it holds.
"""
