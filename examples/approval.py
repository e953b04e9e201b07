"""A refund that a person must approve: one process asks and ends, another answers, a minute or a month later.

python -m examples.approval ask --store sqlite:///refunds.db --thread order-17 --amount 249.00
python -m examples.approval answer --store sqlite:///refunds.db --thread order-17 --approve
"""

from __future__ import annotations

import argparse
import operator
import sys
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from checkpoint_base import CheckpointError, open_saver

# The graph: look_up -> ask_human -> pay or reject. It does not know where its state is kept.


class Refund(TypedDict, total=False):
    order: str
    amount: Decimal  # comes back as the Decimal it was, whatever the store
    customer: str
    approved: bool
    outcome: str
    done: Annotated[list[str], operator.add]  # each node adds its name, so a node that ran twice would show


def look_up(state: Refund) -> Refund:
    # Stands for a slow or costly step, which runs in the first process and is not repeated in the second.
    return {"customer": f"the buyer of {state['order']}", "done": ["look_up"]}


def ask_human(state: Refund) -> Refund:
    # The first time, interrupt() stops the graph, and its argument is stored for a person to find. Once there is an
    # answer, this function runs again from its first line, and interrupt() returns the answer.
    approved = interrupt({"question": f"Refund {state['amount']}?", "customer": state["customer"]})
    return {"approved": bool(approved), "done": ["ask_human"]}


def pay_or_reject(state: Refund) -> Literal["pay", "reject"]:
    return "pay" if state["approved"] else "reject"


def pay(state: Refund) -> Refund:
    return {"outcome": f"{state['amount']} paid to {state['customer']}", "done": ["pay"]}


def reject(state: Refund) -> Refund:
    return {"outcome": f"nothing paid to {state['customer']}", "done": ["reject"]}


def config_of(order: str) -> RunnableConfig:
    # The metadata tells this graph's threads from others in the store. It goes with every run, because listings filter
    # by the metadata of a thread's latest checkpoint.
    return {"configurable": {"thread_id": order}, "metadata": {"graph": "refund"}}


def build_graph() -> StateGraph[Refund]:
    graph = StateGraph(Refund)
    graph.add_node("look_up", look_up)
    graph.add_node("ask_human", ask_human)
    graph.add_node("pay", pay)
    graph.add_node("reject", reject)
    graph.add_edge(START, "look_up")
    graph.add_edge("look_up", "ask_human")
    graph.add_conditional_edges("ask_human", pay_or_reject)
    graph.add_edge("pay", END)
    graph.add_edge("reject", END)
    return graph


# The two processes. They share only the store's URL and the thread's id.


def ask(store: str, thread: str, amount: Decimal) -> None:
    config = config_of(thread)
    with open_saver(store) as saver:
        graph = build_graph().compile(checkpointer=saver)
        if graph.get_state(config).values:
            sys.exit(f"thread {thread!r} has been asked before: choose another id, or answer it")
        graph.invoke({"order": thread, "amount": amount}, config)
        for waiting in saver.interrupts(thread_id=thread):
            print(f"{thread} waits for an answer: {waiting.value['question']}")


def answer(store: str, thread: str, approve: bool) -> None:
    config = config_of(thread)
    with open_saver(store) as saver:
        graph = build_graph().compile(checkpointer=saver)
        if not graph.get_state(config).interrupts:
            sys.exit(f"thread {thread!r} does not wait for an answer")
        final: dict[str, Any] = graph.invoke(Command(resume=approve), config)
        for name, value in final.items():
            print(f"{name:<8} {value}")


def amount_of(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount: write 249.00, for example") from error


def main() -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", required=True, metavar="URL", help="such as sqlite:///refunds.db")
    shared.add_argument("--thread", required=True, metavar="ID")
    parser = argparse.ArgumentParser(prog="python -m examples.approval", description="A refund that a person approves.")
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask", parents=[shared], help="start a refund; it stops at the question")
    asking.add_argument("--amount", type=amount_of, default=Decimal("249.00"))
    answering = commands.add_parser("answer", parents=[shared], help="answer the question; the refund runs to its end")
    decision = answering.add_mutually_exclusive_group(required=True)
    decision.add_argument("--approve", action="store_true")
    decision.add_argument("--reject", action="store_true")
    given = parser.parse_args()
    if given.command == "ask":
        ask(given.store, given.thread, given.amount)
    else:
        answer(given.store, given.thread, given.approve)


if __name__ == "__main__":
    try:
        main()
    except CheckpointError as error:
        sys.exit(str(error))
