"""The same graph on any number of stores: only the URL differs.

python -m examples.any_backend sqlite:///refunds.db postgresql://localhost/app redis://localhost:6379/0 s3://bucket/app
"""

from __future__ import annotations

import sys
from decimal import Decimal
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from checkpoint_base import CheckpointError, open_saver
from examples.approval import build_graph


def ask_and_answer(store: str) -> str:
    """Run the graph to its question with one saver, answer with another one, and return the outcome."""
    order = f"order-{uuid4().hex[:8]}"
    config: RunnableConfig = {"configurable": {"thread_id": order}}
    with open_saver(store) as saver:
        build_graph().compile(checkpointer=saver).invoke({"order": order, "amount": Decimal("249.00")}, config)
    with open_saver(store) as saver:
        answer = {waiting.interrupt_id: True for waiting in saver.interrupts(thread_id=order)}
        if not answer:
            return "the second saver does not find the question: this store is not shared"
        final = build_graph().compile(checkpointer=saver).invoke(Command(resume=answer), config)
        saver.delete_thread(order)
    return str(final["outcome"])


def main() -> None:
    stores = sys.argv[1:]
    if not stores:
        sys.exit(f"name at least one store by its URL\n{__doc__}")
    failed = False
    for store in stores:
        scheme = store.partition(":")[0]
        try:
            print(f"{scheme:<11} {ask_and_answer(store)}")
        except CheckpointError as error:
            failed = True
            print(f"{scheme:<11} {error}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
