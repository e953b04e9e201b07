"""A batch that resumes every thread whose question was answered, or whose worker died, and which nobody has continued.

The service records an answer before it continues the thread, so the answer is kept if the worker dies, or finds another
worker busy with the thread. A thread whose worker died in another node is resumed once it has not changed for a lease.
Run this from cron, any number at once: each thread is continued by only one of them.

python -m examples.resume_batch --store sqlite:///service.db
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta

from checkpoint_base import CheckpointError, open_saver
from examples.answers import LEASE, Answers
from examples.approval import build_graph, config_of


async def resume_everything(store: str, at_once: int, lease: timedelta = LEASE) -> int:
    """Resume every thread that was answered or abandoned; return how many threads failed."""
    async with open_saver(store) as saver:
        answers = Answers(saver, lease)
        graph = build_graph().compile(checkpointer=saver)
        free = asyncio.Semaphore(at_once)

        async def tell(thread: str) -> None:
            state = await graph.aget_state(config_of(thread))
            print(f"{thread}: {state.values.get('outcome', 'waits again')}")

        async def resume(thread: str) -> None:
            config = config_of(thread)
            async with free, answers.turn(thread) as may_continue:
                if may_continue and await answers.of_thread(thread):
                    for why in (await answers.resume(graph, config)).values():
                        print(f"{thread}: an answer was refused: {why}", file=sys.stderr)
                    await tell(thread)

        async def go_on(thread: str) -> None:
            async with free, answers.turn_of_abandoned(thread) as may_continue:
                if may_continue:
                    await graph.ainvoke(None, config_of(thread))
                    await tell(thread)

        waiting = list(dict.fromkeys([each.thread_id async for each in saver.ainterrupts(order="oldest")]))
        abandoned = [thread async for thread in answers.abandoned(graph, {"graph": "refund"}, timedelta(days=1))]
        results = await asyncio.gather(*map(resume, waiting), *map(go_on, abandoned), return_exceptions=True)
        failed = [(thread, result) for thread, result in zip(waiting + abandoned, results, strict=True) if result]
        for thread, error in failed:  # the answer is kept, so the next batch tries again
            print(f"{thread}: failed: {error}", file=sys.stderr)
        return len(failed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.resume_batch", description="Resume all answered threads.")
    parser.add_argument("--store", required=True, metavar="URL", help="such as sqlite:///service.db")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="threads to resume at the same time")
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(resume_everything(given.store, given.at_once)) else 0)


if __name__ == "__main__":
    try:
        main()
    except CheckpointError as error:
        sys.exit(str(error))
