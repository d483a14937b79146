"""Folders that hold a trained model: safetensors and JSON, written whole or not at all."""
