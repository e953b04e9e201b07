"""INTERRUPT: graphs that wait for a person, and the listings of what waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.types import Command, Interrupt

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.contract import Capability
from conformance_tests.trial import Colour, Config, Handle, Trial

DURABILITIES = ("sync", "async", "exit")
START: dict[str, Any] = {"log": []}


def _durabilities(t: Trial, build: graphs.Build) -> Sequence[str]:
    return t.spread(DURABILITIES, len(build.__name__))


class _Thread:
    """A thread of a graph that each step continues through another handle than the step before."""

    def __init__(self, t: Trial, build: graphs.Build, *, durability: str = "async") -> None:
        self.t = t
        self.runs: graphs.Runs = Counter()
        self.config = t.config(t.thread())
        self.value: Any = None
        self._durability = durability
        self._handles = [(handle, build(handle.saver, self.runs)) for handle in (t.open(), t.open())]

    def start(self, value: Any = START) -> None:
        self.invoke(value)

    def invoke(self, value: Any) -> None:
        handle, graph = self._next()
        self.value = handle.invoke(graph, value, self.config, durability=self._durability)

    def answer(self, question: str, answer: str = "yes") -> None:
        """Answer one of the pending questions and leave the others waiting."""
        ids = self.questions()
        if question not in ids:
            self.t.fail(f"expected {question!r} to wait for an answer; waiting are {sorted(ids)}")
        self.invoke(Command(resume={ids[question]: answer}))

    def questions(self) -> dict[str, str]:
        """The pending questions and their ids."""
        handle, graph = self._next()
        return {question.value: question.id for question in handle.get_state(graph, self.config).interrupts}

    def expect_questions(self, expected: Sequence[str], situation: str) -> None:
        self.t.expect(sorted(self.questions()), sorted(expected), f"{situation}; pending questions")

    def expect_runs(self, expected: Mapping[str, int], situation: str) -> None:
        self.t.expect(dict(self.runs), dict(expected), f"{situation}; how often each came to its end")

    def expect_finished(self, log: Sequence[Any], situation: str) -> None:
        handle, graph = self._next()
        state = handle.get_state(graph, self.config)
        self.t.expect((state.next, state.values.get("log")), ((), list(log)), f"{situation}; what is next, and the log")

    def _next(self) -> tuple[Handle, graphs.Graph]:
        self._handles.reverse()
        return self._handles[0]


def _once(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


# INTERRUPT-1


@case("INTERRUPT-1")
def a_paused_graph_resumes_through_another_handle_with_any_durability(t: Trial) -> None:
    for durability in DURABILITIES:
        thread = _Thread(t, graphs.one_question, durability=durability)
        thread.start()
        situation = f"paused with durability {durability!r}"
        thread.expect_questions(["go on?"], situation)
        thread.invoke(Command(resume="sure"))
        thread.expect_finished(["before", "ask sure", "after"], f"{situation}, resumed")
        thread.expect_runs(_once("before", "ask", "after"), f"{situation}, resumed")


@case("INTERRUPT-1")
def what_finished_beside_a_question_does_not_run_again(t: Trial) -> None:
    for durability in DURABILITIES:
        thread = _Thread(t, graphs.parallel_questions, durability=durability)
        thread.start()
        thread.invoke(Command(resume=dict.fromkeys(thread.questions().values(), "yes")))
        situation = f"answered all of a super-step's questions, durability {durability!r}"
        thread.expect_finished(["a yes", "b yes", "c yes", "done", "end"], situation)
        thread.expect_runs(_once("a", "b", "c", "done", "end"), situation)


@case("INTERRUPT-1")
def a_question_that_comes_again_in_a_later_step_is_a_new_one(t: Trial) -> None:
    thread = _Thread(t, graphs.repeated_question)
    thread.start()
    first = thread.questions()
    thread.invoke(Command(resume="no"))
    second = thread.questions()
    t.expect_that(
        list(first) == list(second) == ["yes?"] and first != second,
        f"answered no, so that the node asks again; expected the same question under a new id, got {first}, {second}",
    )
    thread.invoke(Command(resume="yes"))
    thread.expect_finished(["ask no", "ask yes"], "answered no, then yes")


# INTERRUPT-2


@case("INTERRUPT-2")
def parallel_questions_are_answered_in_any_order(t: Trial) -> None:
    for order in t.spread(("abc", "cab", "bca", "cba")):
        thread = _Thread(t, graphs.parallel_questions)
        thread.start()
        answered: list[str] = []
        for name in order:
            left = [f"{other}?" for other in "abc" if other not in answered]
            thread.expect_questions(left, f"asked a, b and c, answered {answered}")
            thread.answer(f"{name}?", name.upper())
            answered.append(name)
        thread.expect_finished(["a A", "b B", "c C", "done", "end"], f"answered {order} one at a time")
        thread.expect_runs(_once("a", "b", "c", "done", "end"), f"answered {order} one at a time")


@case("INTERRUPT-2")
def questions_of_fanned_out_tasks_are_answered_one_at_a_time(t: Trial) -> None:
    thread = _Thread(t, graphs.fanned_out_questions)
    thread.start()
    for item in (2, 0, 1):
        thread.answer(f"{item}?", f"answer {item}")
    thread.expect_finished(["plan", "0 answer 0", "1 answer 1", "2 answer 2", "end"], "answered three sent tasks")
    thread.expect_runs(_once("plan", "ask 0", "ask 1", "ask 2", "end"), "answered three sent tasks")


@case("INTERRUPT-2")
def a_question_and_an_answer_survive_an_error(t: Trial) -> None:
    thread = _Thread(t, graphs.questions_and_an_error)
    thread.start()
    t.expect_error(lambda: thread.answer("fail?", "sure"), "answered one of two questions, and its node raised")
    thread.answer("ask?")
    thread.expect_finished(["ask yes", "fail sure", "end"], "answered the other, and the node did not raise again")
    thread.expect_runs({"attempts": 2, "ask": 1, "end": 1}, "answered the other, and the node did not raise again")


# INTERRUPT-3


@case("INTERRUPT-3")
def a_node_receives_its_earlier_answers_again(t: Trial) -> None:
    for durability in _durabilities(t, graphs.several_questions):
        thread = _Thread(t, graphs.several_questions, durability=durability)
        thread.start()
        for question, answer in (("first?", "one"), ("second?", "two"), ("third?", "three")):
            thread.expect_questions([question], f"durability {durability!r}, before the answer {answer!r}")
            thread.invoke(Command(resume=answer))
        thread.expect_finished(["ask one two three", "after"], f"three answers to one node, durability {durability!r}")


@case("INTERRUPT-3")
def parallel_nodes_keep_their_own_answers(t: Trial) -> None:
    thread = _Thread(t, graphs.two_nodes_with_several_questions)
    thread.start()
    thread.answer("b1?", "B1")
    thread.answer("a1?", "A1")
    thread.expect_questions(["a2?", "b2?"], "answered the first question of either node")
    thread.answer("a2?", "A2")
    thread.answer("b2?", "B2")
    thread.expect_finished(["a A1 A2", "b B1 B2", "end"], "answered two questions of two nodes in turns")
    thread.expect_runs(_once("a", "b", "end"), "answered two questions of two nodes in turns")


# INTERRUPT-4


@case("INTERRUPT-4")
def a_question_in_a_subgraph_resumes_with_the_subgraphs_state(t: Trial) -> None:
    for durability in _durabilities(t, graphs.question_in_a_subgraph):
        thread = _Thread(t, graphs.question_in_a_subgraph, durability=durability)
        thread.start()
        thread.expect_questions(["a draft?"], "a subgraph asked")
        thread.invoke(Command(resume="good"))
        situation = f"answered in a subgraph, durability {durability!r}"
        thread.expect_finished(["before", "before", "a draft: good", "after"], situation)
        thread.expect_runs(_once("before", "write", "review", "after"), situation)


@case("INTERRUPT-4")
def questions_on_two_levels_are_answered_one_at_a_time(t: Trial) -> None:
    for order in (("middle?", "deep?"), ("deep?", "middle?")):
        thread = _Thread(t, graphs.questions_in_nested_subgraphs)
        thread.start()
        thread.expect_questions(order, "two nested subgraphs asked")
        for question in order:
            thread.answer(question)
        thread.expect_questions([], f"answered {order}")
        thread.expect_runs(_once("before", "note", "middle", "deep", "after"), f"answered {order}")


@case("INTERRUPT-4")
def two_runs_of_one_subgraph_keep_their_own_states(t: Trial) -> None:
    thread = _Thread(t, graphs.questions_of_fanned_out_subgraphs)
    thread.start()
    thread.answer("1?", "B")
    thread.answer("0?", "A")
    thread.expect_finished(["0 A", "1 B"], "answered two runs of one subgraph")
    thread.expect_runs(_once("note 0", "note 1", "ask 0", "ask 1"), "answered two runs of one subgraph")


@case("INTERRUPT-4")
def a_subgraph_that_remembers_finds_what_it_knew(t: Trial) -> None:
    thread = _Thread(t, graphs.questions_in_a_subgraph_that_remembers)
    for known in range(3):
        thread.start()
        thread.expect_questions([f"{known} before?"], f"run {known} of a subgraph with a checkpointer of its own")
        thread.invoke(Command(resume="one more"))
    thread.expect_runs({"review": 3}, "three runs of a subgraph with a checkpointer of its own")


# INTERRUPT-5


@case("INTERRUPT-5")
def a_flow_does_not_run_finished_tasks_again(t: Trial) -> None:
    for durability in _durabilities(t, graphs.flow_in_sequence):
        thread = _Thread(t, graphs.flow_in_sequence, durability=durability)
        thread.start(0)
        for question in ("first?", "second?", "own?"):
            thread.expect_questions([question], f"a flow waits, durability {durability!r}")
            thread.invoke(Command(resume=f"to {question}"))
        situation = f"answered a flow's three questions, durability {durability!r}"
        t.expect(thread.value, [0, "to first?", "to second?", "to own?"], f"{situation}; result")
        thread.expect_runs(_once("work 0", "ask first?", "ask second?", "flow"), situation)


@case("INTERRUPT-5")
def tasks_that_ask_at_once_beside_their_flow_run_once(t: Trial) -> None:
    thread = _Thread(t, graphs.flow_that_gathers)
    thread.start(0)
    _answer_everything(thread)
    t.expect(thread.value, [0, "to a?", "to b?", "to own?"], "answered two tasks and their flow; result")
    thread.expect_runs(_once("work 0", "ask a?", "ask b?", "flow"), "answered two tasks and their flow")


@case("INTERRUPT-5")
def tasks_of_tasks_run_once(t: Trial) -> None:
    thread = _Thread(t, graphs.flow_with_nested_tasks)
    thread.start(0)
    _answer_everything(thread)
    t.expect(thread.value, [["a", "to a?"], ["b", "to b?"]], "answered two tasks that tasks had called; result")
    once = ("work a", "work b", "ask a?", "ask b?", "outer a", "outer b", "flow")
    thread.expect_runs(_once(*once), "answered two tasks that tasks had called")


@case("INTERRUPT-5")
def tasks_that_a_node_calls_run_once(t: Trial) -> None:
    thread = _Thread(t, graphs.tasks_in_a_node)
    thread.start()
    _answer_everything(thread)
    thread.expect_questions([], "answered two tasks of a node, and the node beside it")
    once = ("work 0", "ask a?", "ask b?", "calls", "c", "end")
    thread.expect_runs(_once(*once), "answered two tasks of a node, and the node beside it")


def _answer_everything(thread: _Thread) -> None:
    """Answer one question after another, last first, until none is left."""
    for _ in range(10):
        waiting = sorted(thread.questions(), reverse=True)
        if not waiting:
            return
        thread.answer(waiting[0], f"to {waiting[0]}")


# INTERRUPT-6


class _Inbox:
    """A thread of a graph whose inbox is compared with the graph's own state after every step."""

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
        """Fail unless the inbox and the number of the thread's interrupts are what the graph's state says."""
        self._steps.append(step)
        expected = sorted((question.id, repr(question.value)) for question in self._state().interrupts)
        listed = self.reader.interrupts(thread_id=self.thread_id)
        found = sorted((interrupt.interrupt_id, repr(interrupt.value)) for interrupt in listed)
        self.t.expect(found, expected, f"{self._situation()}; interrupts, compared with those of get_state")
        if Capability.THREADS in self.t.capabilities:
            counts = [thread.pending_interrupts for thread in self.reader.threads(thread_id=self.thread_id)]
            self.t.expect(sum(counts), len(expected), f"{self._situation()}; number of interrupts that threads tells")

    def _state(self) -> Any:
        return self.reader.get_state(self._watched, self.config)

    def _situation(self) -> str:
        return f"durability {self._durability!r}: {', '.join(self._steps)}"


def _inboxes(t: Trial, build: graphs.Build, durabilities: Sequence[str] = ()) -> Iterator[_Inbox]:
    """A new thread of the graph for every durability, worked on through one handle and watched through another."""
    worker, reader = t.open(), t.open()
    graph, watched = build(worker.saver, Counter()), build(reader.saver, Counter())
    for durability in durabilities or _durabilities(t, build):
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
    for inbox in _inboxes(t, graphs.question_of_a_graph_in_a_node):
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


@case("INTERRUPT-6", needs=Capability.COPY)
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


@case("INTERRUPT-6", needs=Capability.RUNS)
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


# INTERRUPT-7


@case("INTERRUPT-7")
def interrupts_are_listed_by_time_in_either_order(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for order in ("newest", "oldest"):
        listed = reader.interrupts(metadata={"team": team}, order=order)
        times = [interrupt.created_at for interrupt in listed]
        t.expect(times, sorted(times, reverse=order == "newest"), f"listed the inbox, {order} first; times")
        found = [(interrupt.thread_id, interrupt.interrupt_id) for interrupt in listed]
        t.expect(sorted(found), sorted(asked), f"listed the inbox, {order} first; threads and ids")
        threads = list(dict.fromkeys(thread_id for thread_id, _ in found))
        expected = list(dict.fromkeys(thread_id for thread_id, _ in asked))
        t.expect(
            threads,
            expected if order == "oldest" else expected[::-1],
            f"three threads asked one after the other, listed {order} first; threads",
        )


@case("INTERRUPT-7")
def pages_of_interrupts_join_to_one_listing(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for selection in ({"metadata": {"team": team}}, {"thread_id": asked[0][0]}):
        for order in ("newest", "oldest"):
            whole = [interrupt.interrupt_id for interrupt in reader.interrupts(order=order, **selection)]
            for limit in (1, 2, 3, 4):
                pages = _pages(t, reader, "interrupts", limit, order=order, **selection)
                joined = [interrupt.interrupt_id for page in pages for interrupt in page]
                t.expect(
                    joined, whole, f"pages of {limit}, {order} first, of {selection}; ids, compared with a listing"
                )
                t.expect(
                    [len(page) for page in pages[:-1]],
                    [limit] * (len(pages) - 1),
                    f"pages of {limit} of {len(whole)} interrupts; lengths of all but the last",
                )


@case("INTERRUPT-7")
def a_limit_bounds_the_interrupts(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for limit, expected in ((0, 0), (2, 2), (100, len(asked)), (None, len(asked))):
        listed = reader.interrupts(metadata={"team": team}, limit=limit)
        t.expect(len(listed), expected, f"listed {len(asked)} interrupts with limit {limit}; how many")


@case("INTERRUPT-7")
def a_page_continues_behind_an_interrupt_that_was_answered(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    threads = [t.thread() for _ in range(4)]
    graph = graphs.one_question(worker.saver, Counter())
    for thread in threads:
        worker.invoke(graph, START, _config_of(t, thread, team))
    for order, expected in (("oldest", threads), ("newest", threads[:0:-1])):
        seen = []
        cursor = None
        for _ in threads:
            page = reader.interrupts(metadata={"team": team}, order=order, limit=1, after=cursor)
            if not page:
                break
            seen.append(page[0].thread_id)
            cursor = page[0].cursor
            if page[0].thread_id == threads[0]:
                worker.invoke(graph, Command(resume="yes"), _config_of(t, threads[0], team))
        t.expect(seen, expected, f"one was answered after its page was read, {order} first; threads of the pages")


@case("INTERRUPT-7")
def a_long_inbox_is_complete(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread, team = t.thread(), t.thread("team")
    stored = t.put(worker, thread, metadata={"team": team})
    for number in range(120):
        _ask(worker, stored, f"task-{number:03}", f"q{number:03}")
    expected = [f"q{number:03}" for number in range(120)]
    for selection in ({"metadata": {"team": team}}, {"thread_id": thread}):
        listed = reader.interrupts(order="oldest", **selection)
        t.expect([interrupt.value for interrupt in listed], expected, f"120 interrupts listed by {selection}; values")


def _teams_questions(t: Trial, worker: Handle) -> tuple[str, list[tuple[str, str]]]:
    """Let three threads of a new team ask in turn, each with two questions in one write and another beside it.

    Threads of another team ask in between. Returns the team, and threads and ids in the order of the threads.
    """
    graph = graphs.parallel_questions_in_a_subgraph(worker.saver, Counter())
    teams = [t.thread("team") for _ in range(2)]
    asked: list[tuple[str, str]] = []
    for number in range(5):
        config = _config_of(t, t.thread(), teams[number % 2])
        worker.invoke(graph, START, config)
        if number % 2 == 0:
            thread_id = config["configurable"]["thread_id"]
            asked.extend((thread_id, question.id) for question in worker.get_state(graph, config).interrupts)
    t.expect(len(asked), 9, "three threads with three questions each; pending questions of their states")
    return teams[0], asked


def _config_of(t: Trial, thread_id: str, team: str) -> Config:
    return {**t.config(thread_id), "metadata": {"team": team}}


def _pages(t: Trial, reader: Handle, method: str, limit: int, **selection: Any) -> list[list[Any]]:
    pages: list[list[Any]] = []
    while not pages or len(pages[-1]) == limit:
        after = pages[-1][-1].cursor if pages else None
        pages.append(getattr(reader, method)(limit=limit, after=after, **selection))
        t.expect_that(len(pages) < 100, f"pages of {limit} of {method}; expected them to come to an end")
    return pages


def _ask(handle: Handle, config: Config, task_id: str, *questions: str) -> None:
    """Store an interrupt as the graph does."""
    asked = tuple(Interrupt(value=question, id=f"{task_id}-{question}") for question in questions)
    handle.put_writes(config, [("__interrupt__", asked)], task_id, f"~__pregel_pull, {task_id}")


# INTERRUPT-8


@case("INTERRUPT-8")
def interrupts_are_found_by_all_entries_of_the_metadata(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    common = {"team": team, "it's": '"quoted"', "who": {"name": "Ann", "tags": [1, None]}}
    for number, (tier, urgent) in enumerate(((1, True), (1, False), (2, True))):
        stored = t.put(worker, t.thread(), metadata={**common, "tier": tier, "urgent": urgent})
        _ask(worker, stored, "task-1", f"q{number}")
    for entries, expected in (
        ({}, ["q0", "q1", "q2"]),
        ({"tier": 1}, ["q0", "q1"]),
        ({"tier": 1, "urgent": True}, ["q0"]),
        ({"tier": 2, "urgent": False}, []),
        ({"tier": "1"}, []),
        ({"who": {"name": "Ann", "tags": [1, None]}, "tier": 2}, ["q2"]),
        ({"who": {"name": "Ann"}}, []),
        ({"it's": '"quoted"', "urgent": True}, ["q0", "q2"]),
        ({"unknown": "x", "tier": 1}, []),
    ):
        listed = reader.interrupts(metadata={"team": team, **entries}, order="oldest")
        t.expect([interrupt.value for interrupt in listed], expected, f"interrupts with metadata {entries}; values")


@case("INTERRUPT-8")
def a_limit_counts_what_matches(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    for number in range(6):
        stored = t.put(worker, t.thread(), metadata={"team": team, "parity": {"odd": number % 2 == 1}})
        _ask(worker, stored, "task-1", f"q{number}")
    selection = {"metadata": {"team": team, "parity": {"odd": True}}, "order": "oldest"}
    first = reader.interrupts(limit=2, **selection)
    t.expect([interrupt.value for interrupt in first], ["q1", "q3"], "every other interrupt matches, limit 2; values")
    rest = reader.interrupts(limit=2, after=first[-1].cursor, **selection)
    t.expect([interrupt.value for interrupt in rest], ["q5"], "every other interrupt matches, the next page; values")


@case("INTERRUPT-8")
def the_metadata_is_that_of_the_waiting_checkpoint(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread, team = t.thread(), t.thread("team")
    first = t.put(worker, thread, metadata={"team": team, "phase": "early"})
    _ask(worker, first, "task-1", "old")
    second = t.put(worker, thread, parent=first, metadata={"team": team, "phase": "late"})
    _ask(worker, second, "task-2", "new")
    for phase, expected in (("early", []), ("late", ["new"])):
        listed = reader.interrupts(metadata={"team": team, "phase": phase})
        t.expect([interrupt.value for interrupt in listed], expected, f"interrupts with phase {phase!r}; values")
        entries = [(interrupt.metadata["team"], interrupt.metadata["phase"]) for interrupt in listed]
        t.expect(entries, [(team, phase)] * len(expected), f"interrupts with phase {phase!r}; their metadata")


# INTERRUPT-9


@case("INTERRUPT-9")
def a_thread_tells_of_its_latest_root_checkpoint(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    t.chain(worker, thread, 3, team="red")
    t.chain(worker, thread, 5, ns="sub:1", team="blue")
    found = _thread_info(t, reader, thread)
    t.expect((found.step, found.metadata["team"]), (2, "red"), "a root and a subgraph; step and metadata of the thread")
    t.expect(found.pending_interrupts, 0, "nothing was asked; pending interrupts")


@case("INTERRUPT-9")
def the_latest_root_checkpoint_is_the_one_with_the_greatest_id(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    for number in (2, 1):
        stored = t.put(worker, thread, id_=f"1f000000-0000-6000-8000-00000000000{number}", metadata={"step": number})
        _ask(worker, stored, f"task-{number}", *[f"{number}?"] * number)
    found = _thread_info(t, reader, thread)
    t.expect((found.step, found.pending_interrupts), (2, 2), "put the latest first; step and pending interrupts")


@case("INTERRUPT-9")
def a_threads_times_are_those_of_its_first_and_last_change(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    before = datetime.now(UTC)
    (stored,) = t.chain(worker, thread, 1)
    created = _thread_info(t, reader, thread)
    for name in ("created_at", "updated_at"):
        when = getattr(created, name)
        t.expect(when.utcoffset(), timedelta(0), f"{name} of a thread; its offset from UTC")
        t.expect_that(
            abs(when - before) < timedelta(minutes=5), f"{name} of a thread just made; expected now, got {when}"
        )
    t.expect_that(created.created_at <= created.updated_at, f"expected created_at <= updated_at, got {created}")
    time.sleep(0.005)
    worker.put_writes(stored, [("n", 1)], "task-1")
    written = _thread_info(t, reader, thread)
    t.expect(written.created_at, created.created_at, "wrote to a thread; created_at")
    t.expect_that(
        written.updated_at > created.updated_at,
        f"wrote to a thread; expected updated_at after {created.updated_at}, got {written.updated_at}",
    )
    time.sleep(0.005)
    t.put(worker, thread, parent=stored)
    put = _thread_info(t, reader, thread)
    t.expect(put.created_at, created.created_at, "put another checkpoint; created_at")
    t.expect_that(
        put.updated_at > written.updated_at,
        f"put another checkpoint; expected updated_at after {written.updated_at}, got {put.updated_at}",
    )


@case("INTERRUPT-9")
def every_thread_is_told_of(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    threads = [t.thread() for _ in range(3)]
    for number, thread in enumerate(threads):
        stored = t.put(worker, thread)
        if number:
            _ask(worker, stored, "task-1", *(f"{question}?" for question in range(number)))
    found = {info.thread_id: info.pending_interrupts for info in reader.threads() if info.thread_id in threads}
    t.expect(found, dict(zip(threads, range(3), strict=True)), "three threads with 0, 1 and 2 questions; threads")
    worker.delete_thread(threads[0])
    t.expect_that(
        threads[0] not in [info.thread_id for info in reader.threads()],
        "deleted a thread; expected threads not to tell of it",
    )


@case("INTERRUPT-9")
def a_missing_thread_is_not_told_of(t: Trial) -> None:
    t.expect(t.open().threads(thread_id=t.thread()), [], "asked for a thread that does not exist; threads")


def _thread_info(t: Trial, reader: Handle, thread: str) -> Any:
    found = reader.threads(thread_id=thread)
    t.expect([info.thread_id for info in found], [thread], "asked for one thread; threads")
    return found[0]


# INTERRUPT-10


@case("INTERRUPT-10")
def threads_are_listed_by_last_change_in_either_order(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, threads, configs = _teams_threads(t, worker, 4)
    worker.put_writes(configs[1], [("n", 1)], "task-1")
    t.put(worker, threads[0], parent=configs[0], metadata={"team": team})
    expected = [threads[2], threads[3], threads[1], threads[0]]
    for order in ("oldest", "newest"):
        listed = reader.threads(metadata={"team": team}, order=order)
        t.expect(
            [info.thread_id for info in listed],
            expected if order == "oldest" else expected[::-1],
            f"wrote to the second of four threads, then put to the first, listed {order} first; threads",
        )


@case("INTERRUPT-10")
def pages_of_threads_join_to_one_listing(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, threads, _ = _teams_threads(t, worker, 5)
    for order in ("oldest", "newest"):
        for limit in (1, 2, 5):
            pages = _pages(t, reader, "threads", limit, order=order, metadata={"team": team})
            joined = [info.thread_id for page in pages for info in page]
            expected = threads if order == "oldest" else threads[::-1]
            t.expect(joined, expected, f"pages of {limit} of five threads, {order} first; threads")
    for bound, count in ((0, 0), (None, 5)):
        listed = reader.threads(metadata={"team": team}, limit=bound)
        t.expect(len(listed), count, f"listed five threads with limit {bound}; how many")


@case("INTERRUPT-10")
def threads_are_found_by_all_entries_of_their_latest_metadata(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    threads = []
    for tier, urgent in ((1, True), (1, False), (2, True)):
        thread = t.thread()
        threads.append(thread)
        first = t.put(worker, thread, metadata={"team": team, "tier": 9, "urgent": urgent})
        t.put(worker, thread, parent=first, metadata={"team": team, "tier": tier, "urgent": urgent})
    for entries, expected in (
        ({"tier": 1}, threads[:2]),
        ({"tier": 1, "urgent": True}, threads[:1]),
        ({"tier": 9}, []),
        ({"tier": 2, "urgent": False}, []),
    ):
        listed = reader.threads(metadata={"team": team, **entries}, order="oldest")
        t.expect([info.thread_id for info in listed], expected, f"threads with metadata {entries}; ids")


def _teams_threads(t: Trial, worker: Handle, count: int) -> tuple[str, list[str], list[Config]]:
    """Make threads of a new team, one after the other, and others in between; oldest first."""
    team = t.thread("team")
    threads = [t.thread() for _ in range(count)]
    configs = []
    for thread in threads:
        configs.append(t.put(worker, thread, metadata={"team": team}))
        t.put(worker, t.thread(), metadata={"team": "of others"})
    return team, threads, configs
