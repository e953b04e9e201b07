"""INTERRUPT-6: after every step, `interrupts()` lists the questions that the graph itself reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from langgraph.graph import END
from langgraph.types import Command, Interrupt

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.cases.interrupt import DURABILITIES, START, durabilities_for
from conformance_tests.contract import Capability
from conformance_tests.trial import Colour, Config, Handle, Trial
from conformance_tests.values import messages


class _Inbox:
    """A graph's thread, whose inbox is compared with the graph's own state after every step."""

    def __init__(
        self, t: Trial, worker: Handle, graph: graphs.Graph, reader: Handle, watched: graphs.Graph, durability: str
    ) -> None:
        self.t = t
        self.config = t.config(t.thread())
        self.worker = worker
        self.graph = graph
        self.reader = reader
        self._watched = watched
        self._durability = durability
        self._steps: list[str] = []

    @property
    def thread_id(self) -> str:
        return str(self.config["configurable"]["thread_id"])

    def start(self, value: Any = START) -> None:
        self.invoke(value, "started")

    def invoke(self, value: Any, step: str, config: Config | None = None) -> None:
        self.worker.invoke(self.graph, value, config or self.config, durability=self._durability)
        self.compare(step)

    def fail_to_invoke(self, value: Any, step: str) -> None:
        self.t.expect_error(
            lambda: self.worker.invoke(self.graph, value, self.config, durability=self._durability), step
        )
        self.compare(step)

    def answer(self, question: str, **command: Any) -> None:
        self.invoke(self.reply(question, **command), f"answered {question!r}")

    def reply(self, question: str, **command: Any) -> Command[Any]:
        """The command that answers one pending question."""
        ids = self.questions()
        if question not in ids:
            self.t.fail(f"{self._situation()}; expected {question!r} to be pending, got {sorted(ids)}")
        return Command(resume={ids[question]: "yes"}, **command)

    def answer_everything(self) -> None:
        for _ in range(10):
            waiting = sorted(self.questions(), reverse=True)
            if not waiting:
                return
            self.answer(waiting[0])
        self.t.fail(f"{self._situation()}; expected no more questions, got {waiting}")

    def update(self, values: Any, step: str, config: Config | None = None, **options: Any) -> None:
        self.worker.update_state(self.graph, config or self.config, values, **options)
        self.compare(step)

    def questions(self) -> dict[str, str]:
        """What the graph says is pending."""
        return {question.value: question.id for question in self._state().interrupts}

    def history(self) -> list[Any]:
        """The graph's states, newest first."""
        return self.worker.get_state_history(self.graph, self.config)

    def compare(self, step: str) -> None:
        """Fail unless the inbox, and the thread's number of interrupts, are those of the graph's state."""
        self._steps.append(step)
        state = self._state()
        # A set, because langgraph repeats what a `@task` in a subgraph asks: for the task, and for each of its callers.
        expected = sorted(
            {
                (task.id, question.id, repr(question.value), repr(question.response_schema))
                for task in state.tasks
                for question in task.interrupts
            }
        )
        listed = self.reader.interrupts(thread_id=self.thread_id)
        found = sorted(
            (waiting.task_id, waiting.interrupt_id, repr(waiting.value), repr(waiting.response_schema))
            for waiting in listed
        )
        self.t.expect(found, expected, f"{self._situation()}; interrupts, compared with those of get_state")
        places = {(waiting.thread_id, waiting.checkpoint_ns, waiting.checkpoint_id) for waiting in listed}
        latest = (self.thread_id, "", state.config["configurable"].get("checkpoint_id"))
        self.t.expect(places, {latest} if listed else set(), f"{self._situation()}; where the interrupts wait")
        if Capability.THREADS in self.t.subject.capabilities:
            counts = [thread.pending_interrupts for thread in self.reader.threads(thread_id=self.thread_id)]
            self.t.expect(sum(counts), len(expected), f"{self._situation()}; number of interrupts according to threads")

    def _state(self) -> Any:
        return self.reader.get_state(self._watched, self.config)

    def _situation(self) -> str:
        return f"durability {self._durability!r}: {', '.join(self._steps)}"


def _inboxes(t: Trial, build: graphs.Build, durabilities: Sequence[str] = ()) -> Iterator[_Inbox]:
    """A new thread of the graph for every durability, run through one handle and watched through another."""
    worker, reader = t.open(), t.open()
    graph, watched = build(worker.saver, Counter()), build(reader.saver, Counter())
    for durability in durabilities or durabilities_for(t, build):
        yield _Inbox(t, worker, graph, reader, watched, durability)


@case("INTERRUPT-6")
def the_inbox_of_parallel_questions(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        for question in ("b?", "a?", "c?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_parallel_questions_that_are_answered_together(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        ids = inbox.questions()
        inbox.invoke(Command(resume={ids["a?"]: "A", ids["c?"]: "C"}), "answered two of three")
        inbox.invoke(Command(resume="B"), "answered the last")


@case("INTERRUPT-6")
def the_inbox_of_a_question_with_a_schema_for_its_answer(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.question_with_a_schema):
        inbox.start()
        inbox.answer("who?")


@case("INTERRUPT-6")
def the_inbox_of_several_questions_in_a_node(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.several_questions):
        inbox.start()
        for question in ("first?", "second?", "third?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_two_nodes_with_several_questions(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.two_nodes_with_several_questions):
        inbox.start()
        for question in ("b1?", "a1?", "a2?", "b2?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_question_that_is_repeated(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.repeated_question):
        inbox.start()
        inbox.invoke(Command(resume="no"), "answered no, so that it is asked again")
        inbox.invoke(Command(resume="yes"), "answered yes")


@case("INTERRUPT-6")
def the_inbox_of_fanned_out_tasks(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.fanned_out_questions):
        inbox.start()
        for question in ("1?", "2?", "0?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_subgraph_beside_a_question_of_the_root(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        for question in ("a?", "c?", "b?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_subgraph_whose_root_is_answered_first(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        for question in ("c?", "b?", "a?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_nested_subgraphs(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.questions_in_nested_subgraphs):
        inbox.start()
        for question in ("middle?", "deep?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_nested_subgraphs_whose_deepest_is_answered_first(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.questions_in_nested_subgraphs):
        inbox.start()
        for question in ("deep?", "middle?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_fanned_out_subgraphs(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.questions_of_fanned_out_subgraphs):
        inbox.start()
        for question in ("1?", "0?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_subgraph_that_remembers(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.questions_in_a_subgraph_that_remembers):
        for _ in range(2):
            inbox.start()
            inbox.answer_everything()


@case("INTERRUPT-6", colours=[Colour.SYNC])
def the_inbox_of_a_graph_that_a_node_invokes(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.question_of_a_graph_in_a_node, DURABILITIES):
        inbox.start()
        for question in ("a draft?", "outer?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_flow(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.flow_in_sequence):
        inbox.start(0)
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_of_a_flow_that_gathers_tasks_and_asks_itself(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.flow_that_gathers):
        inbox.start(0)
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_of_a_flow_that_waits_for_tasks_that_ask(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.flow_that_waits_for_its_tasks):
        inbox.start(0)
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_of_tasks_that_tasks_call(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.flow_with_nested_tasks):
        inbox.start(0)
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_of_tasks_that_a_node_calls(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.tasks_in_a_node):
        inbox.start()
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_of_tasks_that_a_node_of_a_subgraph_calls(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.tasks_in_a_subgraph):
        inbox.start()
        for question in ("b?", "a?"):
            inbox.answer(question)


@case("INTERRUPT-6")
def the_inbox_of_a_question_beside_an_error(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.questions_and_an_error):
        inbox.start()
        inbox.fail_to_invoke(inbox.reply("fail?"), "answered, and the node raised")
        inbox.answer("ask?")
        t.expect(inbox.questions(), {}, "answered both, of which one had raised once; pending questions")


@case("INTERRUPT-6")
def static_breakpoints_are_not_in_the_inbox(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.without_questions):
        inbox.start()
        t.expect(inbox.questions(), {}, "stopped before a node; pending questions")
        inbox.invoke(None, "went on to the breakpoint after the node")
        t.expect(inbox.questions(), {}, "stopped after a node; pending questions")
        inbox.invoke(None, "went on to the end")


@case("INTERRUPT-6")
def the_inbox_after_an_update_as_one_of_the_waiting_nodes(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        inbox.update({"log": ["by hand"]}, "updated as a waiting node", as_node="a")
        inbox.invoke(None, "ran on")
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_after_an_update_as_the_waiting_node_or_an_earlier_one(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.one_question):
        inbox.start()
        inbox.update({"log": ["by hand"]}, "updated as an earlier node", as_node="before")
        inbox.invoke(None, "ran on")
        inbox.update({"log": ["by hand"]}, "updated as the waiting node", as_node="ask")
        t.expect(inbox.questions(), {}, "updated as the waiting node; pending questions")


@case("INTERRUPT-6")
def the_inbox_after_an_update_without_values(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.one_question):
        inbox.start()
        inbox.update(None, "updated with nothing")
        inbox.invoke(None, "ran on")
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_after_a_fork(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        inbox.answer("a?")
        oldest = inbox.history()[-1].config
        inbox.update({"log": ["fork"]}, "updated the oldest state", oldest)
        inbox.invoke(None, "ran the fork")
        inbox.answer_everything()


@case("INTERRUPT-6")
def the_inbox_after_time_travel(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.one_question):
        inbox.start()
        waiting = inbox.history()[0].config
        inbox.answer_everything()
        inbox.invoke(None, "replayed from where it waited", waiting)
        inbox.invoke(Command(resume="other"), "answered otherwise")
        inbox.invoke(Command(resume="again"), "answered where it had waited first", waiting)
        inbox.invoke(None, "replayed from the oldest state", inbox.history()[-1].config)


@case("INTERRUPT-6")
def the_inbox_after_running_on_while_it_waits(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        inbox.invoke(None, "ran on without an answer")
        inbox.answer("a?")
        inbox.invoke(None, "ran on after one answer")
        inbox.answer("c?")


@case("INTERRUPT-6")
def the_inbox_after_new_input_while_it_waits(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        inbox.answer("b?")
        inbox.invoke({"log": ["more"]}, "gave new input while it waited")
        inbox.answer("c?")


@case("INTERRUPT-6")
def the_inbox_of_a_subgraph_after_new_input(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.question_in_a_subgraph):
        inbox.start()
        inbox.invoke({"log": ["more"]}, "gave new input while it waited")
        inbox.answer_everything()
        inbox.invoke({"log": ["again"]}, "gave new input after it had finished")


@case("INTERRUPT-6")
def the_inbox_after_an_answer_with_an_update_or_a_jump(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        inbox.answer("b?", update={"log": ["with an update"]})
        inbox.answer("a?", goto="end")
        inbox.answer_everything()


@case("INTERRUPT-6")
def a_large_question_is_in_the_inbox_whole(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    large = messages(name="line")
    asked = (Interrupt(value=large, id="large"), Interrupt(value="small", id="small"))
    worker.put_writes(t.put(worker, thread), [("__interrupt__", asked)], "task-1")
    found = {waiting.interrupt_id: waiting.value for waiting in t.open().interrupts(thread_id=thread)}
    t.expect(found, {"large": large, "small": "small"}, "a task asked a large and a small question; interrupts")


@case("INTERRUPT-6")
def inboxes_of_threads_do_not_mix(t: Trial) -> None:
    one, other = _inboxes(t, graphs.parallel_questions, ("async", "sync"))
    one.start()
    other.start()
    one.answer("a?")
    other.compare("another thread was answered")
    other.answer("c?")
    one.compare("answered one, and another thread too")


@case("INTERRUPT-6")
def a_deleted_thread_is_not_in_the_inbox(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        inbox.worker.delete_thread(inbox.thread_id)
        inbox.compare("deleted while it waited")
        inbox.start()
        inbox.answer("a?")


@case("INTERRUPT-6")
def the_inbox_stays_when_an_older_checkpoint_arrives_late(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        inbox.start()
        inbox.answer("a?")
        late = t.checkpoint(id_="1e000000-0000-6000-8000-000000000001")  # older than any that a graph makes
        inbox.worker.put(inbox.config, late, {}, {})
        inbox.compare("put an older checkpoint")
        t.expect(sorted(inbox.questions()), ["b?", "c?"], "put an older checkpoint of a waiting thread; questions")


@case("INTERRUPT-6", needs=Capability.COPY_THREAD)
def the_inbox_of_a_copied_thread(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        inbox.answer("a?")
        source, target = inbox.config, t.config(t.thread())
        inbox.worker.copy_thread(inbox.thread_id, target["configurable"]["thread_id"])
        inbox.config = target
        inbox.compare("copied while it waited: the copy")
        inbox.answer_everything()
        inbox.config = source
        inbox.compare("answered the copy: the source")
        t.expect(sorted(inbox.questions()), ["b?", "c?"], "answered a copy; the source's questions")


@case("INTERRUPT-6", needs=Capability.PRUNE)
def the_inbox_of_a_pruned_thread(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions_in_a_subgraph):
        inbox.start()
        inbox.answer("c?")
        inbox.worker.prune([inbox.thread_id])
        inbox.compare("pruned while it waited")
        inbox.answer_everything()


@case("INTERRUPT-6", needs=Capability.DELETE_FOR_RUNS)
def the_inbox_after_runs_were_deleted(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        runs = [t.thread("run") for _ in range(2)]
        inbox.config["metadata"] = {"run_id": runs[0]}
        inbox.start()
        inbox.answer("a?")
        inbox.config["metadata"] = {"run_id": runs[1]}
        inbox.start()
        inbox.worker.delete_for_runs([runs[1]])
        inbox.compare("deleted the later of two runs that wait")
        inbox.answer_everything()


@case("INTERRUPT-6", needs=Capability.DELETE_FOR_RUNS)
def a_question_is_back_when_the_run_that_went_past_it_was_deleted(t: Trial) -> None:
    for inbox in _inboxes(t, graphs.parallel_questions):
        runs = [t.thread("run") for _ in range(2)]
        inbox.config["metadata"] = {"run_id": runs[0]}
        inbox.start()
        inbox.config["metadata"] = {"run_id": runs[1]}
        inbox.update(None, "ended by an update, unanswered", as_node=END)
        inbox.worker.delete_for_runs([runs[1]])
        inbox.compare("deleted the run of the update")
        t.expect(sorted(inbox.questions()), ["a?", "b?", "c?"], "deleted the run that went past questions; questions")
        inbox.answer_everything()
