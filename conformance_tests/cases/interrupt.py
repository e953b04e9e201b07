"""INTERRUPT-1 to 5: graphs that wait for a person, and continue with the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.types import Command

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.trial import Handle, Trial

DURABILITIES = ("sync", "async", "exit")
START: dict[str, Any] = {"log": []}


def durabilities_for(t: Trial, build: graphs.Build) -> Sequence[str]:
    return t.spread(DURABILITIES, len(build.__name__))


class _Thread:
    """A graph's thread in which each step uses another handle than the step before."""

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
    for durability in durabilities_for(t, graphs.several_questions):
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
    thread.expect_finished(["a A1 A2", "b B1 B2", "end"], "answered two questions of each of two nodes alternately")
    thread.expect_runs(_once("a", "b", "end"), "answered two questions of each of two nodes alternately")


# INTERRUPT-4


@case("INTERRUPT-4")
def a_question_in_a_subgraph_resumes_with_the_subgraphs_state(t: Trial) -> None:
    for durability in durabilities_for(t, graphs.question_in_a_subgraph):
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
    for durability in durabilities_for(t, graphs.flow_in_sequence):
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
    thread.expect_questions([], "answered two tasks of a node, and the parallel node")
    once = ("work 0", "ask a?", "ask b?", "calls", "c", "end")
    thread.expect_runs(_once(*once), "answered two tasks of a node, and the parallel node")


def _answer_everything(thread: _Thread) -> None:
    """Answer one question after the other, last first, until none is left."""
    for _ in range(10):
        waiting = sorted(thread.questions(), reverse=True)
        if not waiting:
            return
        thread.answer(waiting[0], f"to {waiting[0]}")
