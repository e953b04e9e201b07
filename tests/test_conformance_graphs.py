"""The graphs of the conformance suite do what the cases count on: otherwise a case would pass without a meaning."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from conformance_tests import graphs

FLOWS = [
    graphs.flow_in_sequence,
    graphs.flow_that_gathers,
    graphs.flow_that_waits_for_its_tasks,
    graphs.flow_with_nested_tasks,
]
GRAPHS = [
    graphs.one_question,
    graphs.question_with_a_schema,
    graphs.parallel_questions,
    graphs.several_questions,
    graphs.two_nodes_with_several_questions,
    graphs.repeated_question,
    graphs.fanned_out_questions,
    graphs.question_in_a_subgraph,
    graphs.questions_in_a_subgraph_that_remembers,
    graphs.question_within_a_subgraph_that_remembers,
    graphs.parallel_questions_in_a_subgraph,
    graphs.questions_in_nested_subgraphs,
    graphs.questions_of_fanned_out_subgraphs,
    graphs.question_of_a_graph_in_a_node,
    graphs.tasks_in_a_node,
    graphs.tasks_in_a_subgraph,
]


def config_of(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def run_to_the_end(graph: graphs.Graph, value: Any, config: Any) -> Any:
    """Answer yes to everything that it asks; returns what it gives at the end."""
    result = graph.invoke(value, config)
    while waiting := graph.get_state(config).interrupts:
        result = graph.invoke(Command(resume={question.id: "yes" for question in waiting}), config)
    return result


@pytest.mark.parametrize("build", [*GRAPHS, *FLOWS], ids=lambda build: build.__name__)
def test_what_is_done_again_is_counted_again(build: graphs.Build) -> None:
    runs: graphs.Runs = Counter()
    graph = build(InMemorySaver(), runs)
    counts = []
    for thread in ("one", "another"):
        run_to_the_end(graph, 0 if build in FLOWS else {"log": []}, config_of(thread))
        counts.append(dict(runs))
    assert counts[0]
    assert counts[1] == {name: 2 * count for name, count in counts[0].items()}


@pytest.mark.parametrize(
    ("build", "result"),
    [
        (graphs.flow_in_sequence, [0, "yes", "yes", "yes"]),
        (graphs.flow_that_gathers, [0, "yes", "yes", "yes"]),
        (graphs.flow_that_waits_for_its_tasks, [0, "yes", "yes", "yes"]),
        (graphs.flow_with_nested_tasks, [["a", "yes"], ["b", "yes"]]),
    ],
    ids=[build.__name__ for build in FLOWS],
)
def test_a_flow_returns_every_answer_as_it_was_given(build: graphs.Build, result: Any) -> None:
    assert run_to_the_end(build(InMemorySaver(), Counter()), 0, config_of("t")) == result


def test_one_of_the_parallel_tasks_of_a_delta_graph_asks() -> None:
    graph, config = graphs.delta_graph(InMemorySaver(), graphs.LONG, "first?", "second?"), config_of("t")
    graph.invoke(graphs.both("input"), config)
    asking = [task.name for task in graph.get_state(config).tasks if task.interrupts]
    assert asking == ["m"]
    assert "m 2 yes yes" in run_to_the_end(graph, None, config)["delta"]


def test_a_graph_without_questions_stops_before_its_first_node_and_after_it() -> None:
    graph, config = graphs.without_questions(InMemorySaver(), Counter()), config_of("t")
    said = [graph.invoke(value, config)["log"] for value in ({"log": []}, None, None)]
    assert said == [[], ["one"], ["one", "two"]]


def test_a_question_with_a_schema_has_one() -> None:
    graph, config = graphs.question_with_a_schema(InMemorySaver(), Counter()), config_of("t")
    graph.invoke({"log": []}, config)
    [question] = graph.get_state(config).interrupts
    assert question.response_schema


@pytest.mark.parametrize(("frequency", "has"), [(1, {True}), (3, {True, False}), (graphs.LONG, {False})])
def test_a_delta_channel_stores_its_value_as_often_as_it_is_told_to(frequency: int, has: set[bool]) -> None:
    saver, config = InMemorySaver(), config_of("t")
    for number in range(4):
        graphs.delta_graph(saver, frequency).invoke(graphs.both(f"input {number}"), config)
    stored = [found.checkpoint for found in saver.list(config) if "delta" in found.checkpoint["channel_versions"]]
    assert {"delta" in checkpoint["channel_values"] for checkpoint in stored} == has


def test_parallel_tasks_of_a_delta_graph_begin_in_another_order_than_that_of_their_paths() -> None:
    graph = graphs.delta_graph(InMemorySaver(), graphs.LONG)
    assert [name for name in graph.nodes if name in "amz"] == ["z", "m", "a"]


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda saver: graphs.delta_subgraph(saver, graphs.LONG), graphs.both("input")),
        (lambda saver: graphs.question_within_a_subgraph_that_remembers(saver, Counter()), {"log": []}),
        (lambda saver: graphs.questions_in_a_subgraph_that_remembers(saver, Counter()), {"log": []}),
    ],
    ids=["delta", "within", "own"],
)
def test_a_subgraph_that_remembers_has_one_namespace_for_all_its_calls(build: Any, value: Any) -> None:
    saver, config = InMemorySaver(), config_of("t")
    for _ in range(2):
        run_to_the_end(build(saver), value, config)
    namespaces = {found.config["configurable"]["checkpoint_ns"] for found in saver.list(config)}
    assert {"", "sub"} <= namespaces
