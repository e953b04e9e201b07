"""Savers that break INTERRUPT clauses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar

from checkpoint_base import SQLiteSaver, ThreadInfo
from tests.broken_savers import breaks


@breaks("INTERRUPT-1")
class ForgetsWhatFinishedTasksWrote(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and found._replace(pending_writes=[w for w in found.pending_writes if w[1].startswith("__")])


@breaks("INTERRUPT-2")
class KeepsOneQuestionOfACheckpoint(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        by_channel = {write[1]: write for write in found.pending_writes} if found else {}
        return found and found._replace(pending_writes=list(by_channel.values()))


@breaks("INTERRUPT-3")
class KeepsTheFirstAnswerOfANode(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        stored = self.get_tuple(config)
        if stored and any(w[:2] == (task_id, "__resume__") for w in stored.pending_writes):
            writes = [write for write in writes if write[0] != "__resume__"]
        super().put_writes(config, writes, task_id, task_path)


@breaks("INTERRUPT-4")
class FindsRootCheckpointsOnly(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        return None if config["configurable"].get("checkpoint_ns") else super().get_tuple(config)


@breaks("INTERRUPT-5")
class LosesWhatCalledTasksReturned(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if not task_path.startswith("~__pregel_push, ~"):
            super().put_writes(config, writes, task_id, task_path)


@breaks("INTERRUPT-6")
class ListsAnsweredQuestionsUntilTheStepEnds(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        listed = list(super().interrupts(**options))
        root = self.get_tuple({"configurable": {"thread_id": options["thread_id"]}}) if listed else None
        for _, _, questions in (w for w in (root.pending_writes if root else ()) if w[1] == "__interrupt__"):
            for question in questions:
                yield replace(listed[0], interrupt_id=question.id, value=question.value)


@breaks("INTERRUPT-6")
class TakesAnyAnswerOfATaskForItsLast(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        for listed in super().interrupts(**options):
            config = {"configurable": {"thread_id": listed.thread_id, "checkpoint_id": listed.checkpoint_id}}
            waiting: Any = self.get_tuple(config)
            if not any(write[:2] == (listed.task_id, "__resume__") for write in waiting.pending_writes):
                yield listed


@breaks("INTERRUPT-6")
class CountsNoInterruptsOfThreads(SQLiteSaver):
    def threads(self, **options: Any) -> Any:
        return (replace(thread, pending_interrupts=0) for thread in super().threads(**options))


@breaks("INTERRUPT-6")
class ListsAQuestionForEveryCallerOfItsTask(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        for waiting in super().interrupts(**options):
            config = {"configurable": {"thread_id": waiting.thread_id, "checkpoint_id": waiting.checkpoint_id}}
            root: Any = self.get_tuple(config)
            for task_id, channel, questions in root.pending_writes:
                if (task_id, channel) == (waiting.task_id, "__interrupt__"):
                    yield from (waiting for question in questions if question.id == waiting.interrupt_id)


@breaks("INTERRUPT-6")
class ForgetsWhatWaitedBeforeADeletedRun(SQLiteSaver):
    forgotten: ClassVar[set[str]] = set()  # by every handle, as an index in the storage would be

    def delete_for_runs(self, run_ids: Any) -> None:
        waited = {waiting.thread_id for waiting in super().interrupts()}
        super().delete_for_runs(run_ids)
        self.forgotten.update({waiting.thread_id for waiting in super().interrupts()} - waited)

    def interrupts(self, **options: Any) -> Any:
        return (waiting for waiting in super().interrupts(**options) if waiting.thread_id not in self.forgotten)


@breaks("INTERRUPT-6")
class TakesTheLastPutForTheWaitingCheckpoint(SQLiteSaver):
    last: ClassVar[dict[str, str]] = {}  # of every handle, as an index in the storage would be

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if not config["configurable"].get("checkpoint_ns"):
            self.last[config["configurable"]["thread_id"]] = checkpoint["id"]
        return super().put(config, checkpoint, metadata, new_versions)

    def interrupts(self, **options: Any) -> Any:
        for waiting in super().interrupts(**options):
            if self.last.get(waiting.thread_id, waiting.checkpoint_id) == waiting.checkpoint_id:
                yield waiting


@breaks("INTERRUPT-6")
class CutsLongQuestions(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        return (replace(waiting, value=waiting.value[:50]) for waiting in super().interrupts(**options))


@breaks("INTERRUPT-6")
class NamesTheCheckpointForTheTask(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        for waiting in super().interrupts(**options):
            yield replace(waiting, task_id=waiting.checkpoint_id)


@breaks("INTERRUPT-6")
class NamesTheFirstCheckpointOfTheThread(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        for waiting in super().interrupts(**options):
            *_, first = self.list({"configurable": {"thread_id": waiting.thread_id}})
            yield replace(waiting, checkpoint_id=first.checkpoint["id"])


@breaks("INTERRUPT-7")
class ListsTheInboxOfAThreadOrTeamOnly(SQLiteSaver):
    def interrupts(self, *, thread_id: Any = None, metadata: Any = None, **options: Any) -> Any:
        if thread_id or metadata:
            yield from super().interrupts(thread_id=thread_id, metadata=metadata, **options)


@breaks("INTERRUPT-7")
class TellsTheTimeOfAQuestionWithoutZone(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        for waiting in super().interrupts(**options):
            yield replace(waiting, created_at=waiting.created_at.replace(tzinfo=None))


@breaks("INTERRUPT-7")
class ListsTheNewestFirstInEitherOrder(SQLiteSaver):
    def interrupts(self, *, order: Any = "newest", **options: Any) -> Any:
        return super().interrupts(order="newest", **options)


@breaks("INTERRUPT-7")
class ContinuesBehindAllQuestionsOfATask(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        last: dict[Any, str] = {}
        listed = list(super().interrupts(**{**options, "limit": None}))
        for item in listed:
            last[item.thread_id, item.task_id] = item.cursor
        return iter([replace(i, cursor=last[i.thread_id, i.task_id]) for i in listed][: options.get("limit")])


@breaks("INTERRUPT-7")
class FindsAThousandThreadsThatWait(SQLiteSaver):
    def interrupts(self, **options: Any) -> Any:
        threads: set[str] = set()
        for waiting in super().interrupts(**options):
            threads.add(waiting.thread_id)
            if len(threads) <= 1000:
                yield waiting


@breaks("INTERRUPT-8")
class FiltersInterruptsByOneEntry(SQLiteSaver):
    def interrupts(self, *, metadata: Any = None, **options: Any) -> Any:
        return super().interrupts(metadata=dict(list((metadata or {}).items())[:1]), **options)


@breaks("INTERRUPT-8")
class FiltersNothingInOneThread(SQLiteSaver):
    def interrupts(self, *, thread_id: Any = None, metadata: Any = None, **options: Any) -> Any:
        yield from super().interrupts(thread_id=thread_id, metadata=None if thread_id else metadata, **options)


@breaks("INTERRUPT-9")
class TellsOfTheLatestCheckpointOfAnyNamespace(SQLiteSaver):
    def threads(self, **options: Any) -> Any:
        for thread in super().threads(**options):
            latest = max(self.list({"configurable": {"thread_id": thread.thread_id}}), key=lambda c: c.checkpoint["id"])
            yield replace(thread, step=latest.metadata.get("step"), metadata=latest.metadata)


@breaks("INTERRUPT-9")
class TellsTheTimesOfTheSourceWhenItIsCopiedAgain(SQLiteSaver):
    times: ClassVar[dict[str, datetime]] = {}  # of every handle, as an index in the storage would be

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        is_again = bool(list(super().threads(thread_id=target_thread_id)))
        super().copy_thread(source_thread_id, target_thread_id)
        for source in super().threads(thread_id=source_thread_id) if is_again else ():
            self.times[target_thread_id] = source.updated_at

    def threads(self, **options: Any) -> Any:
        for thread in super().threads(**options):
            yield replace(thread, updated_at=self.times.get(thread.thread_id, thread.updated_at))


@breaks("INTERRUPT-9")
class ListsThreadsThatHaveARootOnly(SQLiteSaver):
    def threads(self, **options: Any) -> Any:
        for thread in super().threads(**options):
            if self.get_tuple({"configurable": {"thread_id": thread.thread_id}}):
                yield thread


@breaks("INTERRUPT-9")
class ListsThreadsOfWritesAlone(SQLiteSaver):
    """In the listing of all threads."""

    written: ClassVar[set[str]] = set()  # by every handle, as an index in the storage would be

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id, task_path)
        self.written.add(config["configurable"]["thread_id"])

    def threads(self, *, thread_id: Any = None, **options: Any) -> Any:
        listed = list(super().threads(thread_id=thread_id, **options))
        yield from listed
        if thread_id is None:
            for other in self.written - {thread.thread_id for thread in listed}:
                now = datetime.now(UTC)
                yield ThreadInfo(other, now, now, step=None, pending_interrupts=0, metadata={}, cursor="")


@breaks("INTERRUPT-9")
class RemembersWhenADeletedThreadBegan(SQLiteSaver):
    began: ClassVar[dict[str, datetime]] = {}  # by every handle, as an index in the storage would be

    def threads(self, **options: Any) -> Any:
        for thread in super().threads(**options):
            yield replace(thread, created_at=self.began.setdefault(thread.thread_id, thread.created_at))


@breaks("INTERRUPT-9")
class TellsThreadsTimesWithoutZone(SQLiteSaver):
    def threads(self, **options: Any) -> Any:
        for thread in super().threads(**options):
            yield replace(thread, updated_at=thread.updated_at.replace(tzinfo=None))


@breaks("INTERRUPT-9")
class TellsWhenAThreadWasCopied(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        super().copy_thread(source_thread_id, target_thread_id)
        for copied in self.list({"configurable": {"thread_id": target_thread_id}}, limit=1):
            self.put_writes(copied.config, [("copied", True)], "copy")


@breaks("INTERRUPT-10")
class ListsThreadsByTheirBeginning(SQLiteSaver):
    def threads(self, *, order: Any = "newest", **options: Any) -> Any:
        listed = super().threads(order=order, **options)
        return iter(sorted(listed, key=lambda thread: thread.created_at, reverse=order == "newest"))


@breaks("INTERRUPT-10")
class FiltersNothingOfOneThread(SQLiteSaver):
    def threads(self, *, thread_id: Any = None, metadata: Any = None, **options: Any) -> Any:
        yield from super().threads(thread_id=thread_id, metadata=None if thread_id else metadata, **options)


@breaks("INTERRUPT-10")
class BeginsEveryPageOfThreadsAnew(SQLiteSaver):
    def threads(self, *, after: Any = None, **options: Any) -> Any:
        return super().threads(**options)


@breaks("INTERRUPT-10")
class HasAThousandThreadsOnItsLargestPage(SQLiteSaver):
    """Where 1,600 were asked for, so that this page, the third, seems to be the last."""

    def threads(self, **options: Any) -> Any:
        return islice(super().threads(**options), 100 + 400 + 1000)
