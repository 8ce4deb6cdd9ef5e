"""The pool on a Ray cluster of two nodes: the census is taken on both, and one of them is killed amid work."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest

from mtasklite.tests.clusters import census
from mtasklite.tests.programs import Program

pytest.importorskip("ray")

N_ITEMS = 10_000
LIMIT_SECONDS = 110

CODE = """
    import json, time
    import ray
    from ray.cluster_utils import Cluster
    from mtasklite import Pool, is_exception
    from mtasklite.tests.clusters import census

    def node():
        return ray.get_runtime_context().get_node_id()

    def work(item):
        time.sleep(0.0005)
        return item, node()

    def make_megabyte(item):
        return bytearray(1 << 20)

    def describe(outcome):
        return [type(outcome).__name__, outcome.item_index] if is_exception(outcome) else list(outcome)

    options = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    second = cluster.add_node(**options)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    told = {"nodes": [one["NodeID"] for one in ray.nodes()], "second": second.node_id}

    with Pool(census.Parser(str(census.ROOT), node), backend="ray", chunk_size=1) as pool:
        told["n_jobs"] = pool.num_workers
        told["census"] = [result for result in pool(census.find_files(60))]

    outcomes = []
    for outcome in Pool(work, 2, backend="ray", exception_behavior="ignore")(range(N_ITEMS)):
        outcomes.append(describe(outcome))
        if len(outcomes) == N_ITEMS // 3:
            cluster.remove_node(second, allow_graceful=False)
    told["outcomes"] = outcomes

    third = cluster.add_node(**options)
    cluster.wait_for_nodes()
    told["sizes"] = []
    for outcome in Pool(make_megabyte, 2, backend="ray", exception_behavior="ignore")(range(100)):
        told["sizes"].append(0 if is_exception(outcome) else len(outcome))
        if len(told["sizes"]) == 20:
            cluster.remove_node(third, allow_graceful=False)
    told["is_joined"] = ray.is_initialized()
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a program tells that has a cluster of two nodes."""
    folder = tmp_path_factory.mktemp("nodes")
    path = folder / "program.py"
    path.write_text(textwrap.dedent(CODE).replace("N_ITEMS", str(N_ITEMS)), "utf-8")
    with Program(folder, str(path), command=[sys.executable]) as program:
        assert program.end(LIMIT_SECONDS) == 0, program.err
        return json.loads(program.out.splitlines()[-1])


def test_census_is_taken_on_both_nodes(told):
    """Each node does a part of it, and it is what a plain loop counts."""
    assert (told["n_jobs"], len(told["nodes"])) == (2, 2)
    plain = census.Parser.__wrapped__(str(census.ROOT), lambda: "here")
    assert [tuple(result[:3]) for result in told["census"]] == [plain(name)[:3] for name in census.find_files(60)]
    assert {node for *_, node in told["census"]} == set(told["nodes"])


def test_node_that_is_killed_costs_what_may_have_run_there(told):
    """Each item has one outcome, in order: its result, or that its worker died with the node."""
    outcomes = told["outcomes"]
    failed = {index for index, outcome in enumerate(outcomes) if outcome[0] == "WorkerDiedError"}
    assert len(outcomes) == N_ITEMS
    assert [outcome[1] for index, outcome in enumerate(outcomes) if index in failed] == sorted(failed)
    done = [outcome for index, outcome in enumerate(outcomes) if index not in failed]
    assert [item for item, _ in done] == [index for index in range(N_ITEMS) if index not in failed]
    assert len(failed) < N_ITEMS // 10
    assert told["second"] in {node for _, node in done}
    assert outcomes[-1][1] != told["second"]


def test_node_that_is_killed_takes_large_results_along_and_holds_nobody_up(told):
    """Results that were still in the memory of a node that is killed fail, and are not waited for."""
    sizes = told["sizes"]
    assert len(sizes) == 100
    assert set(sizes) <= {0, 1 << 20}
    assert sizes.count(0) < 50
    assert sizes[-1] == 1 << 20


def test_cluster_that_lost_a_node_is_still_joined(told):
    """The pool leaves the cluster as it is."""
    assert told["is_joined"] is True
