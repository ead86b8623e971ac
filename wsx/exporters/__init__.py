"""From a supernet to subnets: recorded graphs, ONNX models, plain PyTorch modules, export folders.

Nothing is imported here: the graph side (graph, operators, emission, folder) works where torch is not
installed, the recorder, ``extract`` and the official exporter need it.
"""
