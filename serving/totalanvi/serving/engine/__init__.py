"""Aligned cells in, arrays out: ONNX sessions, sparse first layers, searches, and calibrated certainty."""
