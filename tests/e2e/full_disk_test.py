"""A coordinator's file system and a node's fill up in mid-round: they say so once, stay up, and lose nothing.

The file systems are real ones of some MiB (tmpfs), mounted where no other process sees them.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time

from fleet import Fleet, arguments_of, one_line, run_program, set_keys, wait_for
from records import check_coordinator, check_node

DISK_MIB = 96
SKIPPED = 77  # What ctest takes for a skipped test.
OWN_MOUNTS = "RIVULET_TEST_OWN_MOUNTS"
HIDDEN = 512  # 38,410 parameters, 150 KiB as fp32
# What is left of the disk when it is "full": a part of what a round writes still finds room.
LEFT_KIB = (0, 40, 160)

LEFT_KIB_OF_NODE = (0, 20)
# RocksDB has taken the room of its log beforehand: more than that many samples find the disk full.
MORE, WIDTH = 40_000, 64

SETTINGS = {"round": {"deadline_s": 25}, "training": {"epochs": 20, "learning_rate": 0.02},
            "limits": {"heartbeat_s": 2, "storage_backoff_ms": 500}}


def enter_own_mounts():
    """Runs this test anew where its mounts are its own, and vanish with it. @return why that cannot be."""
    if os.environ.get(OWN_MOUNTS):
        return None
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--"]
    trial = ["sh", "-c", "mount -t tmpfs -o size=1m rivulet-test /mnt"]
    try:
        done = subprocess.run([*unshare, *trial], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if done.returncode != 0:
        return done.stderr.strip()
    os.environ[OWN_MOUNTS] = "1"
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


@contextlib.contextmanager
def disk(folder):
    """A file system of its own for this folder; gone at the end."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "rivulet-test", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Disk:
    """A file beside what lies there takes the room that is left."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "somebody-elses-file"

    def fill(self, left_kib=0):
        self.free()
        with open(self.file, "wb") as file:
            while (room := shutil.disk_usage(self.folder).free - left_kib * 1024) > 0:
                with contextlib.suppress(OSError):  # A daemon was quicker: there is less room now.
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)

    def free(self):
        self.file.unlink(missing_ok=True)


class FullDiskTest:
    def __init__(self, fleet, reader):
        self.fleet, self.reader = fleet, reader
        self.begun = time.monotonic()

    def say(self, what):
        print(f"{time.monotonic() - self.begun:6.1f} s  {what}", flush=True)

    # ---- What is asked again and again

    def wait_until_training(self, nodes):
        for node in nodes:
            wait_for(f"{node.name} trains", lambda: any(
                task["type"] == "train" and task["state"] == "running"
                for task in (self.fleet.node_status(node) or {"tasks": []})["tasks"]))

    def admin_answer(self, path):
        """@return the status of an answer of the admin API."""
        connection = http.client.HTTPConnection(self.fleet.coordinator.ready["admin"], timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def check_refusal(self, command, status, *words):
        """One command whose answer on a full disk is one line."""
        got, _, err = run_program(command)
        assert got == status and one_line(err, command[0].name), f"{command}: status {got}: {err!r}"
        for word in words:
            assert word in err, f"no '{word}' in {err!r}"
        return err.strip()

    def check_round(self, nodes):
        """The round under way ends with a version that holds the updates of all of these nodes."""
        fleet = self.fleet
        fleet.wait_until_idle(120)
        last = fleet.rounds()[-1]
        assert last["state"] == "published" and last["accepted"] == len(nodes), last
        fleet.wait_until_served(nodes)
        assert "intact" in fleet.operate("audit", "--verify")

    # ---- The coordinator's disk

    def fill_coordinator(self, disk, left_kib):
        """In mid-round: nodes are sent away, the operator is answered, and the round ends when there is room."""
        fleet, coordinator = self.fleet, self.fleet.coordinator
        said = len(coordinator.events("storage_full")), len(coordinator.events("storage_has_room"))
        before = fleet.audit()
        fleet.operate("round", "start", "--count", "1")
        self.wait_until_training(fleet.nodes)
        disk.fill(left_kib)
        wait_for("the coordinator notices", lambda: len(coordinator.events("storage_full")) > said[0])
        wait_for("a node is told to come later", lambda: any(
            event.get("reason") == "storage_full" for node in fleet.nodes for event in node.events()))
        wait_for("it takes no writes", lambda: self.admin_answer("/readyz") == 507)
        assert self.admin_answer("/healthz") == 200
        assert fleet.ask("status")["round"] is not None
        assert fleet.audit()[:len(before)] == before, "the audit log of a full disk is what it was"
        # It looks for room every second: three looks in vain, and not one more line.
        looked = time.monotonic() + 3
        wait_for("three looks", lambda: time.monotonic() > looked)
        assert coordinator.alive() and len(coordinator.events("storage_full")) == said[0] + 1
        return said

    def go_on(self, said):
        coordinator = self.fleet.coordinator
        wait_for("the coordinator notices the room", lambda: len(coordinator.events("storage_has_room")) > said[1])
        self.check_round(self.fleet.nodes)
        assert len(coordinator.events("storage_full")) == said[0] + 1
        assert len(coordinator.events("storage_has_room")) == said[1] + 1

    def coordinator_test(self, disk):
        fleet = self.fleet
        for left_kib in LEFT_KIB:
            said = self.fill_coordinator(disk, left_kib)
            disk.free()
            self.go_on(said)
            self.say(f"the coordinator's disk, filled up to {left_kib} KiB")

        # Stopped, and killed, on the full disk: nothing is lost either.
        for end in ("stop", "kill"):
            self.fill_coordinator(disk, 0)
            if end == "stop":
                assert fleet.coordinator.stop() == 0
            else:
                fleet.coordinator.kill()
            disk.fill()  # Its end gave some room back.
            line = self.check_refusal([fleet.programs / "rivulet-coordinator", "run", "--dir", fleet.directory], 1,
                                      str(fleet.directory), "make room")
            disk.free()
            assert fleet.coordinator.start()
            self.check_round(fleet.nodes)
            self.say(f"after a {end} on the full disk; a start there said: {line}")

    # ---- A node's disk

    def counts(self, node):
        status = self.fleet.node_status(node)
        return status["samples"] + status["holdout_samples"] + status["unlabelled_samples"]

    def refuse_samples(self, node, disk):
        """More samples than fit are refused in one line, with the daemon and without; those before stay."""
        fleet = self.fleet
        more = fleet.folder / "more.csv"
        with open(more, "w") as file:
            for row in range(MORE):
                file.write(",".join(map(str, [row, *[(row * 7 + i) % 16 for i in range(1, WIDTH)]])) + "\n")
        command = [fleet.programs / "rivulet-node", "ingest", "--dir", fleet.directory_of(node), more]
        before = self.counts(node)
        disk.fill()
        line = self.check_refusal(command, 1, str(more), "No space left")
        assert before <= self.counts(node) < before + MORE
        assert fleet.get(node, "/healthz") is not None and node.alive()
        self.say(f"ingest on a full disk, by the daemon: {line}")
        assert node.stop() in (0, 1)
        disk.fill()
        line = self.check_refusal(command, 1, str(fleet.directory_of(node)), "make room")
        self.say(f"without it: {line}")
        # Its ballast lets it start all the same, and answer by the model that it has.
        assert node.start(), "a full disk is no reason not to answer"
        wait_for("it serves", lambda: fleet.node_status(node)["serving"])
        fleet.run("rivulet-node", "infer", "--dir", fleet.directory_of(node), fleet.folder / "test.csv", "--label", "label")
        assert len([event for event in node.events_of_life() if event["event"] == "disk_failed"]) == 0
        assert node.stop() in (0, 1)
        # Without ballast there is no start, and that is said.
        ballast = fleet.directory_of(node) / "ballast"
        ballast.unlink(missing_ok=True)
        disk.fill()
        for arguments in ("run", "status"):
            self.check_refusal([fleet.programs / "rivulet-node", arguments, "--dir", fleet.directory_of(node)], 1,
                               str(fleet.directory_of(node)), "make room")
        disk.free()
        assert node.start()
        assert self.counts(node) >= before
        status, _, err = run_program(command)
        assert status == 0, err
        assert self.counts(node) == before + MORE, "each sample is there once"
        fleet.wait_until_ready()

    def fill_in_training(self, node, disk, left_kib):
        """Its update finds no room: it says so, answers on, and takes part again when there is some."""
        fleet = self.fleet
        before = len(node.events())
        fleet.operate("round", "start", "--count", "1")
        self.wait_until_training([node])
        disk.fill(left_kib)
        said = wait_for("the node says that its disk is full", lambda: [
            event for event in node.events()[before:] if "No space left" in event.get("detail", "")])
        fleet.wait_until_idle()
        assert fleet.rounds()[-1]["state"] == "published", "the others' updates are enough"
        assert node.alive()
        assert fleet.node_status(node)["serving"], "a full disk is no reason not to answer"
        fleet.run("rivulet-node", "infer", "--dir", fleet.directory_of(node), fleet.folder / "test.csv", "--label", "label")
        disk.free()
        fleet.wait_until_served()
        fleet.run_rounds()
        self.check_round(fleet.nodes)
        self.say(f"a node's disk, filled up to {left_kib} KiB while it trains: {said[0]['event']}: {said[0]['detail']}")

    def fill_in_download(self, node, disk, left_kib):
        """A version that does not fit waits; the node serves what it has, and the new one when there is room."""
        fleet = self.fleet
        before = fleet.wait_until_served()
        fleet.coordinator.stop()
        assert node.stop() == 0
        set_keys(fleet.directory / "coordinator.toml", {"round": {"cohort": 2}, "validation": {"evaluators": 2}})
        assert fleet.coordinator.start()
        others = [other for other in fleet.nodes if other is not node]
        wait_for("the others are there", lambda: sum(entry["connected"] for entry in fleet.ask("nodes")) == 2)
        fleet.run_rounds()
        newest = fleet.wait_until_served(others)
        assert newest > before
        fleet.coordinator.stop()
        assert node.start()
        disk.fill(left_kib)
        assert fleet.coordinator.start()
        said = wait_for("the node says that its disk is full", lambda: [
            event for event in node.events_of_life() if "No space left" in event.get("detail", "")])
        assert fleet.node_status(node)["serving"]["version"] == before
        disk.free()
        fleet.wait_until_served()
        set_keys(fleet.directory / "coordinator.toml", {"round": {"cohort": 3}, "validation": {"evaluators": 3}})
        fleet.coordinator.stop()
        assert fleet.coordinator.start()
        fleet.wait_until_ready()
        fleet.run_rounds()
        self.check_round(fleet.nodes)
        self.say(f"a node's disk, filled up to {left_kib} KiB before a download: {said[0]['event']}: {said[0]['detail']}")

    def check_records(self):
        """Every update that was accepted has one verdict, and its node knows it."""
        fleet = self.fleet
        for node in fleet.nodes:
            wait_for(f"{node.name} was told of every verdict", lambda: fleet.node_status(node)["outbox"] == [])
            assert node.stop() == 0
        assert fleet.coordinator.stop() == 0
        verdicts = check_coordinator(fleet, self.reader)
        known = sum(check_node(fleet, node, self.reader, verdicts) for node in fleet.nodes)
        assert known > 0
        print(f"{len(verdicts)} verdicts, {known} of them remembered by nodes")


def main():
    programs, reader = arguments_of(__doc__, ["PROGRAMS", "STORE_RECORDS"])
    why = enter_own_mounts()
    if why:
        print(f"skipped: no file system of its own can be mounted here: {why}")
        return SKIPPED
    with Fleet(programs, settings=SETTINGS, hidden=HIDDEN) as fleet:
        test = FullDiskTest(fleet, reader)
        node = fleet.nodes[0]
        with disk(fleet.directory) as large, disk(fleet.directory_of(node)) as small:
            try:
                fleet.start_all()
                fleet.run_rounds()
                fleet.wait_until_served()
                test.coordinator_test(large)
                test.refuse_samples(node, small)
                for left_kib in LEFT_KIB_OF_NODE:
                    test.fill_in_training(node, small, left_kib)
                    test.fill_in_download(node, small, left_kib)
                test.check_records()
            except BaseException:
                for daemon in [fleet.coordinator, *fleet.nodes]:
                    daemon.kill()
                for one in (large, small):
                    one.free()
                raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
