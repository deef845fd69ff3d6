"""Puts `/score` into the OpenAPI description: it is plain ASGI, so FastAPI does not know its body by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from flows.domain.features import FeatureSchema
from flows.gateway.runtime import Runtime
from flows.gateway.scoring import LONGEST_TEXT


def describe_score(app: FastAPI, runtime: Runtime) -> None:
    """Let `GET /openapi.json` describe `/score` with the columns of the schema that is served."""

    def openapi() -> dict[str, Any]:
        schemas = [loaded.model.schema for loaded in runtime.board.loaded.values()]
        whole = get_openapi(title=app.title, version=app.version, routes=app.routes)
        whole["paths"]["/score"] = {"post": _score(schemas[0] if schemas else None, runtime.settings.max_batch_rows)}
        return whole

    app.openapi = openapi  # type: ignore[method-assign]


def _score(schema: FeatureSchema | None, max_batch_rows: int) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}
    row = _object({"request_id": text, "entity": text, "features": _features(schema)})
    batch = _object({"rows": {"type": "array", "items": row, "minItems": 1, "maxItems": max_batch_rows}})
    problem = {"application/json": {"schema": _object({"error": {"type": "string"}})}}
    said = {
        "400": "no JSON, or a header that cannot be read",
        "408": "the body took too long",
        "413": "the body or the batch is too large",
        "422": "the row does not fit the schema",
        "429": "too many requests from this client; see Retry-After",
        "503": "shed, or nothing is live; see Retry-After",
    }
    answer = {"type": "object", "description": "score, slot, version and trace_id; for a batch the rows in their order"}
    return {
        "summary": "Score one row or a batch",
        "operationId": "score",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [row, batch]}}}},
        "responses": {
            "200": {"description": "scored", "content": {"application/json": {"schema": answer}}},
            **{status: {"description": text, "content": problem} for status, text in said.items()},
        },
    }


def _features(schema: FeatureSchema | None) -> dict[str, Any]:
    if schema is None:
        return {"type": "object", "description": "no model is loaded yet"}
    kinds = {"number": {"type": ["number", "null"]}, "category": {"type": ["string", "null"]}}
    return _object({column.name: kinds[column.kind] for column in schema.columns})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
