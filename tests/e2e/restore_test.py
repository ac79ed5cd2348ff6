"""An old copy of the coordinator's folder is put back, as docs/operations.md tells: the fleet goes on from it.

Nodes know the tasks of the rounds that the copy has forgotten, and say so at once; nobody waits for deadlines.
"""

import shutil

from fleet import Fleet, arguments_of

KEPT, FORGOTTEN = 2, 3
# No round that waits for it would end within the patience of this test's calls.
SETTINGS = {"round": {"deadline_s": 600, "selection_deadline_s": 600}}


def stop(fleet):
    assert fleet.coordinator.stop() == 0


def start(fleet):
    assert fleet.coordinator.start()
    fleet.wait_until_ready()


def run(fleet):
    fleet.run_rounds(KEPT)
    copy = fleet.folder / "copy"
    stop(fleet)
    shutil.copytree(fleet.directory, copy)
    start(fleet)
    fleet.run_rounds(FORGOTTEN)
    newest = fleet.wait_until_served()
    assert newest == 1 + KEPT + FORGOTTEN

    stop(fleet)
    shutil.rmtree(fleet.directory)
    shutil.move(copy, fleet.directory)
    start(fleet)
    assert len(fleet.rounds()) == KEPT
    for _ in range(FORGOTTEN):
        fleet.operate("round", "start", "--count", "1")
        fleet.wait_until_idle()
        last = fleet.rounds()[-1]
        assert last["state"] == "failed" and last["declined"] == fleet.count, last
        assert "round_closed" in last["reason"], last
    fleet.run_rounds(FORGOTTEN + 1)  # Manifests get new numbers: nodes activate what is published past the old ones.
    assert [one["state"] for one in fleet.rounds()[-FORGOTTEN - 1:]] == ["published"] * (FORGOTTEN + 1)
    print(f"after {FORGOTTEN} rounds of known tasks, every node serves version {fleet.wait_until_served()}")
    assert "intact" in fleet.operate("audit", "--verify")


def main():
    (programs,) = arguments_of(__doc__, ["PROGRAMS"])
    with Fleet(programs, nodes=3, settings=SETTINGS) as fleet:
        fleet.start_all()
        run(fleet)


if __name__ == "__main__":
    main()
