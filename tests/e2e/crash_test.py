"""Every named crash point is visited in the real programs, which must lose nothing that they promised.

A program is killed there in the middle of rounds, on a disk that forgets what was not synced; started again it is
killed at the first visit of its recovery; started once more it must go on by itself.
"""

import collections
import re
import shutil
import signal
import sys
import time

from fleet import ROOT, Fleet, arguments_of, one_line, run_program, wait_for
from records import check_coordinator, check_node

# Which visit of each point falls into the middle of a round; the second life dies at the first visit.
VISITS = {"store.before_commit": 8, "store.after_commit": 5, "coordinator.update_stored": 2}
VISIT_OTHERWISE = 3
# Visited when a program starts: those lives end there.
AT_START = {"file.before_rename", "file.before_folder_sync"}
# Visited by one command alone, and tested with it.
AT_IMPORT = {"coordinator.release_stored"}


def crash_points():
    """The names that storage/crash_point.h lists."""
    header = (ROOT / "storage/crash_point.h").read_text()
    body = re.search(r"crash_point_names = \{(.*?)\n\};", header, re.DOTALL)[1]
    names = re.findall(r'^\s*"([a-z_.]+)",', body, re.MULTILINE)
    assert len(names) >= 7 and len(set(names)) == len(names), names
    return names


def fault(point, visit):
    return {"RIVULET_CRASH_AT": f"{point}:{visit}", "RIVULET_FAULT_FS": "forget_unsynced"}


class CrashTest:
    def __init__(self, fleet, reader):
        self.fleet, self.reader = fleet, reader
        self.visited = collections.Counter()  # (program, point)

    def note_death(self, daemon, point, program):
        status = daemon.wait()
        assert status == -signal.SIGKILL, f"{daemon.name} at {point} ended with {status} instead of being killed"
        self.visited[program, point] += 1

    # ---- Before there is a fleet

    def import_through_crashes(self):
        """The coordinator dies while a model is imported; imported again, it is there once."""
        fleet = self.fleet
        spec, key = fleet.folder / "digits.toml", fleet.directory / "offline" / "release.key"
        command = [fleet.programs / "rivulet", "--dir", fleet.directory, "model", "import", spec, "--release-key", key]
        # run.json is the first file that is written, the test split the second.
        for point, visit in [("coordinator.release_stored", 1), ("file.before_rename", 2), ("file.before_folder_sync", 2)]:
            assert fleet.coordinator.start(fault(point, visit))
            status, _, err = run_program(command)
            assert status == 1 and one_line(err, "rivulet"), f"status {status}: {err}"
            self.note_death(fleet.coordinator, point, "coordinator")
        assert fleet.coordinator.start()
        fleet.import_model()
        assert [version["version"] for version in fleet.versions()] == [1]

    def join_through_crashes(self, node, token):
        """A node dies while it joins; joining again with the same token is the same node."""
        fleet = self.fleet
        directory = fleet.directory_of(node)
        command = [fleet.programs / "rivulet-node", "join", "-", "--dir", directory]
        for point, visit in [("file.before_rename", 1), ("file.before_folder_sync", 2), ("store.after_commit", 1)]:
            status, _, err = run_program(command, environment=fault(point, visit), text_in=token + "\n")
            assert status == -signal.SIGKILL, f"join at {point}: status {status}: {err}"
            assert not (directory / "node.toml").exists()
            self.visited["join", point] += 1
        fleet.join(node, token)

    # ---- While rounds run

    def keep_rounds_running_until_death(self, daemon, point):
        """A round is always under way, until the daemon has died."""
        fleet = self.fleet
        deadline = time.monotonic() + 60
        while daemon.alive():
            assert time.monotonic() < deadline, f"{daemon.name} did not come to {point} in 60 s"
            try:
                if not fleet.running_round():
                    fleet.operate("round", "start", "--count", "3")
            except AssertionError:
                if daemon is not fleet.coordinator:  # It may die while it answers.
                    raise
            time.sleep(0.02)

    def crash_at(self, daemon, point, program):
        """Two lives that end at the point, and one that mends what they left."""
        daemon.stop()
        for visit in (VISITS.get(point, VISIT_OTHERWISE), 1):
            visit = 1 if point in AT_START else visit
            if daemon.start(fault(point, visit)):
                self.keep_rounds_running_until_death(daemon, f"{point}:{visit}")
            self.note_death(daemon, point, program)
        assert daemon.start(), f"{daemon.name} does not start after a crash at {point}"

    def check_that_all_is_well(self):
        """The rounds end with versions, one more runs, nodes come back and serve, nothing is lost."""
        fleet = self.fleet
        fleet.wait_until_idle()
        before = len(fleet.versions())
        fleet.run_rounds()
        assert len(fleet.versions()) == before + 1
        bad = [(r["round"], r["state"], r["reason"]) for r in fleet.rounds() if r["state"] != "published"]
        assert not bad, f"rounds without a version: {bad}"
        fleet.wait_until_served()
        for node in fleet.nodes:
            wait_for(f"{node.name} was told of every verdict", lambda: fleet.node_status(node)["outbox"] == [])
        assert "intact" in fleet.operate("audit", "--verify")

    def check_records(self):
        """With the coordinator stopped, as its store is read."""
        assert self.fleet.coordinator.stop() == 0
        return check_coordinator(self.fleet, self.reader)


    def prove_that_loss_is_seen(self):
        """A store that is one round behind has lost what was promised: these checks must say so."""
        fleet = self.fleet
        store, older = fleet.directory / "store", fleet.folder / "older"
        shutil.copytree(store, older)
        assert fleet.coordinator.start() and all([node.start() for node in fleet.nodes])
        fleet.wait_until_ready()
        fleet.run_rounds()
        self.check_records()
        shutil.rmtree(store)
        older.rename(store)
        try:
            check_coordinator(fleet, self.reader)
        except AssertionError as error:
            assert "was accepted, and has no verdict" in str(error), error
            return
        raise AssertionError("a coordinator that forgot updates was not caught")


def main():
    programs, reader = arguments_of(__doc__, ["PROGRAMS", "STORE_RECORDS"])
    points = crash_points()
    begun = time.monotonic()
    with Fleet(programs) as fleet:
        test = CrashTest(fleet, reader)
        fleet.found()
        fleet.write_spec()
        test.import_through_crashes()
        token = fleet.token(uses=fleet.count)
        test.join_through_crashes(fleet.nodes[0], token)
        for node in fleet.nodes[1:]:
            fleet.join(node, token)
        for node in fleet.nodes:
            fleet.ingest(node)
            assert node.start()
        fleet.wait_until_ready()
        assert len(fleet.ask("nodes")) == fleet.count
        print(f"{time.monotonic() - begun:6.1f} s  a fleet, through crashes of import and join")

        for point in [point for point in points if not point.startswith("node.") and point not in AT_IMPORT]:
            test.crash_at(fleet.coordinator, point, "coordinator")
            test.check_that_all_is_well()
            test.check_records()
            assert fleet.coordinator.start()
            print(f"{time.monotonic() - begun:6.1f} s  coordinator {point}", flush=True)
        for i, point in enumerate(point for point in points if not point.startswith("coordinator.")):
            node = fleet.nodes[i % fleet.count]
            test.crash_at(node, point, "node")
            test.check_that_all_is_well()
            print(f"{time.monotonic() - begun:6.1f} s  {node.name} {point}", flush=True)

        accepted = sum(len(node.events("update_accepted")) for node in fleet.nodes)
        verdicts = test.check_records()
        for node in fleet.nodes:
            assert node.stop() == 0
        known = sum(check_node(fleet, node, reader, verdicts) for node in fleet.nodes)
        for program, prefix in [("coordinator", "node."), ("node", "coordinator.")]:
            missed = [point for point in points if not point.startswith(prefix) and not test.visited[program, point]]
            assert not missed, f"{program} was never killed at {missed}"
        assert accepted > 0 and known > 0
        print(f"{sum(test.visited.values())} deaths; {accepted} receipts seen by nodes, {len(verdicts)} verdicts, "
              f"{known} of them remembered by nodes")
        test.prove_that_loss_is_seen()
    return 0


if __name__ == "__main__":
    sys.exit(main())
