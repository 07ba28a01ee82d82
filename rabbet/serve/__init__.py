"""Serving: models over HTTP, as the Open Inference Protocol v2 has it, with dynamic batches."""

from rabbet.serve.app import App
from rabbet.serve.batching import Batcher, Limits
from rabbet.serve.model import Model
from rabbet.serve.repository import Repository, load_repository
from rabbet.serve.server import main

__all__ = ["App", "Batcher", "Limits", "Model", "Repository", "load_repository", "main"]
