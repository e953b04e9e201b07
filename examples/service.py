"""A web service whose workers share one store: any of them starts a refund, lists what waits, and takes an answer.

CHECKPOINT_STORE=sqlite:///service.db uvicorn examples.service:app --workers 4
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from checkpoint_base import CheckpointSaver, InvalidKey, StoreUnavailable, open_saver
from examples.answers import Answers
from examples.approval import build_graph, config_of


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Each worker process has a saver of its own; the store is what they share.
    async with open_saver(os.environ["CHECKPOINT_STORE"]) as saver:
        app.state.saver = saver
        app.state.graph = build_graph().compile(checkpointer=saver)
        yield


app = FastAPI(title="Refunds", lifespan=lifespan)


class Order(BaseModel):
    amount: Decimal


class Decision(BaseModel):
    asked_at: datetime
    approve: bool


@app.post("/refunds/{order}", status_code=202)
async def start(order: str, body: Order, request: Request) -> dict[str, Any]:
    """Start the refund of an order. It runs to its question and waits there."""
    graph, config = request.app.state.graph, config_of(order)
    if (await graph.aget_state(config)).values:
        raise HTTPException(409, f"the refund of {order} was started before")
    await graph.ainvoke({"order": order, "amount": body.amount}, config)
    return {"order": order, "state": "waits for an answer"}


@app.get("/refunds/{order}")
async def look(order: str, request: Request) -> dict[str, Any]:
    """The state of a refund."""
    state = await request.app.state.graph.aget_state(config_of(order))
    if not state.values:
        raise HTTPException(404, f"there is no refund of {order}")
    return {**state.values, "waits": bool(state.interrupts)}


@app.get("/inbox")
async def inbox(
    request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: str | None = None
) -> dict[str, Any]:
    """The pending questions, oldest first. Pass `next` as `after` to get the following page."""
    found = [each async for each in _saver(request).ainterrupts(order="oldest", limit=limit, after=after)]
    questions = [
        {"order": each.thread_id, "id": each.interrupt_id, "asked_at": each.created_at, "question": each.value}
        for each in found
    ]
    return {"questions": questions, "next": found[-1].cursor if len(found) == limit else None}


@app.post("/inbox/{order}/{interrupt_id}")
async def answer(order: str, interrupt_id: str, body: Decision, request: Request, response: Response) -> dict[str, Any]:
    """Answer a question: the first answer counts, and one worker continues the refund with it."""
    answers = Answers(_saver(request))
    waiting = [each async for each in answers.saver.ainterrupts(thread_id=order)]
    question = next((each for each in waiting if each.interrupt_id == interrupt_id), None)
    if question is None or question.created_at != body.asked_at:
        raise HTTPException(409, f"{order} does not wait for this answer (any more): read the inbox again")
    if not await answers.record(question, body.approve):
        raise HTTPException(409, f"{order} has been answered by somebody else")
    async with answers.turn(order) as may_continue:
        if may_continue:
            refused = await answers.resume(request.app.state.graph, config_of(order))
            if interrupt_id in refused:
                raise HTTPException(422, refused[interrupt_id])
            return await look(order, request)
    # Another worker is continuing this thread, perhaps without our answer. The batch resumes whatever is left.
    response.status_code = 202
    return {"order": order, "state": "answered"}


@app.exception_handler(StoreUnavailable)
def unavailable(_: Request, error: StoreUnavailable) -> Response:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


@app.exception_handler(InvalidKey)
def invalid(_: Request, error: InvalidKey) -> Response:
    return JSONResponse({"detail": str(error)}, 422)


def _saver(request: Request) -> CheckpointSaver:
    saver: CheckpointSaver = request.app.state.saver
    return saver
