"""The routes that clients ask."""

from starlette.routing import Route

from nacre.serve.api.completion import create_chat, create_completion
from nacre.serve.api.embeddings import create_embeddings
from nacre.serve.api.feedback import create_feedback
from nacre.serve.api.models import list_models, retrieve_model
from nacre.serve.api.openapi import openapi

ROUTES = [
    Route("/v1/chat/completions", create_chat, methods=["POST"]),  # first: looked for from the top
    Route("/openapi.json", openapi, methods=["GET"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{name}", retrieve_model, methods=["GET"]),
    Route("/v1/completions", create_completion, methods=["POST"]),
    Route("/v1/embeddings", create_embeddings, methods=["POST"]),
    Route("/v1/feedback", create_feedback, methods=["POST"]),
]
