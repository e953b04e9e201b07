"""A refund that a person approves. It is compiled without a checkpointer, because the server provides one."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class Refund(TypedDict, total=False):
    amount: int
    approved: bool


def ask(state: Refund) -> Refund:
    return {"approved": bool(interrupt(f"Refund {state['amount']}?"))}


graph = StateGraph(Refund).add_node(ask).add_edge(START, "ask").compile()
