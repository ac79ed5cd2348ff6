"""A node's disk fails (EIO) at any moment: its daemon ends with status 1 and says why; it kept every promise."""

import sys

from fleet import Fleet, arguments_of, run_program, wait_for
from records import check_coordinator, check_node

# After how many writes and syncs everything fails; a start takes some, a round others. Then a life without a fault.
OPERATIONS = [0, 10, 30, 45, 60, 80, 100, 130, 160, 200, 250, 300]
ROUNDS_MAX = 30
SETTINGS = {"round": {"deadline_s": 60, "cohort_min": 3, "updates_min": 3}}


class FailingDiskTest:
    def __init__(self, fleet, reader):
        self.fleet, self.reader = fleet, reader
        self.node = fleet.nodes[0]
        self.kept = 0  # Samples of which the node has said that it stored them.
        self.files = 0

    def ingest_some(self):
        """Gives the node ten new samples; counts them once it has said that they are stored."""
        fleet = self.fleet
        self.files += 1
        file = fleet.folder / f"more-{self.files}.csv"
        with open(file, "w") as out:
            out.write(",".join([f"p{i}" for i in range(64)] + ["label"]) + "\n")
            for row in range(10):
                out.write(",".join([str(self.files + i / 64) for i in range(63)] + [str(row), str(row)]) + "\n")
        status, out, _ = run_program([fleet.programs / "rivulet-node", "ingest", "--dir", fleet.directory_of(self.node),
                                      file, "--label", "label"])
        if status == 0:
            assert "stored 10\n" in out, out
            self.kept += 10

    def samples(self):
        status = self.fleet.node_status(self.node)
        return status["samples"] + status["holdout_samples"]

    def live_until_failure(self, operations):
        """One life on a disk that fails later. @return the line that it ended with."""
        fleet, node = self.fleet, self.node
        fault = {"RIVULET_FAULT_FS": f"eio_after={operations}"}
        if node.start(fault):
            for _ in range(ROUNDS_MAX * 100):
                if not node.alive():
                    break
                if not fleet.running_round():
                    fleet.operate("round", "start", "--count", "2")
                self.ingest_some()
            else:
                raise AssertionError(f"{operations} operations did not come to an end")
            events = node.events_of_life()
            failed = [event for event in events if event["event"] == "disk_failed"]
            assert len(failed) == 1 and failed[0]["level"] == "error" and failed[0]["detail"], failed
        status = node.wait()
        assert status == 1, f"eio_after={operations}: {node.name} ended with {status}"
        last = node.log.read_text().splitlines()[-1]
        assert last.startswith("rivulet-node: ") and str(fleet.directory_of(node)) in last and "start again" in last, last
        return last

    def check_life_after(self):
        """The disk is mended: the node starts, the round ends with its update, and it serves the newest version."""
        fleet, node = self.fleet, self.node
        assert node.start()
        assert self.samples() >= self.kept, f"{self.samples()} samples, of {self.kept} promised"
        self.kept = self.samples()  # One batch more may be there without its answer.
        fleet.wait_until_ready()
        fleet.wait_until_idle(120)
        fleet.run_rounds()
        last = fleet.rounds()[-1]
        assert last["state"] == "published" and last["accepted"] == fleet.count, last
        fleet.wait_until_served()
        wait_for("it was told of every verdict", lambda: fleet.node_status(node)["outbox"] == [])
        assert node.stop() == 0

    def check_records(self):
        fleet = self.fleet
        for node in fleet.nodes:
            if node.alive():
                assert node.stop() == 0
        assert fleet.coordinator.stop() == 0
        verdicts = check_coordinator(fleet, self.reader)
        known = sum(check_node(fleet, node, self.reader, verdicts) for node in fleet.nodes)
        accepted = sum(len(node.events("update_accepted")) for node in fleet.nodes)
        assert known > 0 and accepted > 0
        print(f"{accepted} receipts seen by nodes, {len(verdicts)} verdicts, {known} of them remembered by nodes")


def main():
    programs, reader = arguments_of(__doc__, ["PROGRAMS", "STORE_RECORDS"])
    with Fleet(programs, settings=SETTINGS) as fleet:
        fleet.start_all()
        test = FailingDiskTest(fleet, reader)
        fleet.run_rounds()
        fleet.wait_until_served()
        test.kept = test.samples()
        assert test.node.stop() == 0
        started = 0
        for operations in OPERATIONS:
            before = len(test.node.events("started"))
            last = test.live_until_failure(operations)
            started += len(test.node.events("started")) - before
            test.check_life_after()
            print(f"eio_after={operations}: {last}", flush=True)
        assert 0 < started < len(OPERATIONS), "some failures come at the start, some later"
        test.check_records()
    return 0


if __name__ == "__main__":
    sys.exit(main())
