"""Which writes ask a human something and which settle it, as langgraph's own `get_state` has it.

langgraph's classes are known by their names and attributes, because this package does not need langgraph itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from checkpoint_base.errors import SerializationError

# Writes of these channels tell what happened to a task. Every other write is output, and settles its question.
_CONTROL_CHANNELS = frozenset((ERROR, "__error_source_node__", INTERRUPT, RESUME))

# The null task's writes are input to the super-step. They ask and settle nothing.
_NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"

# The path of a task that another task called (`@task` of the functional API) holds its caller's path, where any other
# push task has a number. Its question is recorded for the caller too, and the caller's is the one that langgraph shows.
_CALLED_TASK_PATH = "~__pregel_push, ~"

_UNSET_ID = "placeholder-id"  # of an Interrupt that was made without an id


def settles(task_id: str, channel: str) -> bool:
    """Whether a write settles what its task asked on the same checkpoint."""
    return task_id != _NULL_TASK_ID and channel not in _CONTROL_CHANNELS


def number_of_questions(task_id: str, task_path: str, channel: str, value: Any) -> int:
    """How many questions a write asks, for as long as nothing settles them."""
    asks = channel == INTERRUPT and task_id != _NULL_TASK_ID and not task_path.startswith(_CALLED_TASK_PATH)
    return len(questions_in(value)) if asks else 0


def questions_in(value: Any) -> Sequence[Any]:
    """The questions in an INTERRUPT write, which langgraph reads as a sequence of them or a single one; each once."""
    found = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]
    # What a `@task` in a subgraph asks is there for the task and again for each caller, under the same id.
    ids = (getattr(question, "id", _UNSET_ID) for question in found)
    return list({at if id_ == _UNSET_ID else repr(id_): found[at] for at, id_ in enumerate(ids)}.values())


def asked(question: Any, where: str) -> tuple[str, Any, Any]:
    """The id and the value of a question, and the schema of its answer, which langgraph has from version 1.2 on.

    Raises:
        SerializationError: somebody else wrote something to the channel of questions, ``where``.
    """
    try:
        return question.id, question.value, getattr(question, "response_schema", None)
    except AttributeError:
        raise SerializationError(f"{where}: a {type(question).__name__} is no Interrupt of LangGraph") from None
