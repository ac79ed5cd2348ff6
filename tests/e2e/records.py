"""What the stores of a coordinator and its nodes say of updates, checked against one another and the logs."""

import collections
import json

from fleet import run_program

FAMILIES = {"coordinator": ["updates", "verdicts", "tasks", "rounds", "versions"], "node": ["outbox", "verdicts"]}


def read_store(reader, folder, kind):
    """@return {family: [(key, record)]} of the store of a daemon that does not run."""
    status, out, err = run_program([reader, folder / "store", *FAMILIES[kind]])
    assert status == 0, err
    families = {family: [] for family in FAMILIES[kind]}
    for line in out.splitlines():
        entry = json.loads(line)
        families[entry["family"]].append((entry["key"], entry["record"]))
    return families


def check_coordinator(fleet, reader):
    """No round is open: every update that a node was promised has one verdict, and versions list what they hold.
    @return {task: verdict}."""
    store = read_store(reader, fleet.directory, "coordinator")
    assert not store["updates"] and not store["tasks"], "a round is over, but its updates or tasks stayed"
    times = collections.Counter(verdict["task"] for _, verdict in store["verdicts"])
    twice = [task for task, count in times.items() if count > 1]
    assert not twice, f"tasks with more than one verdict: {twice}"
    verdicts = {verdict["task"]: verdict for _, verdict in store["verdicts"]}

    for node in fleet.nodes:
        for event in node.events("update_accepted"):
            assert event["task"] in verdicts, f"{node.name}'s update {event['task']} was accepted, and has no verdict"
    held = {}
    for _, version in store["versions"]:
        nodes = [update["node"] for update in version["updates"]]
        assert len(set(nodes)) == len(nodes), f"version {version['version']} holds two updates of one node"
        for update in version["updates"]:
            assert update["task"] not in held, f"update {update['task']} is in two versions"
            held[update["task"]] = version["version"]
    told = {task: verdict["version"] for task, verdict in verdicts.items() if verdict["outcome"] == "aggregated"}
    assert held == told, "the updates in versions are not those whose verdict says so"
    for _, entry in store["rounds"]:
        summary = entry["summary"]
        given = sum(verdict["round"] == summary["round"] for verdict in verdicts.values())
        assert given == summary["accepted"], f"round {summary['round']}: {summary['accepted']} accepted, {given} verdicts"
    return verdicts


def check_node(fleet, node, reader, verdicts):
    """The node knows how each of its updates ended, as the coordinator does. @return how many it remembers."""
    store = read_store(reader, fleet.directory_of(node), "node")
    assert not store["outbox"], f"{node.name} still waits for: {store['outbox']}"
    ended = [record for _, record in store["verdicts"] if record["outcome"] in ("aggregated", "discarded")]
    tasks = [record["task"] for record in ended]
    assert len(set(tasks)) == len(tasks), f"{node.name} was told twice how a task ended"
    for record in ended:
        verdict = verdicts[record["task"]]
        assert (record["outcome"], record["version"]) == (verdict["outcome"], verdict["version"]), (record, verdict)
    return len(ended)
