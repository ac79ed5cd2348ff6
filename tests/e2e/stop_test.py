"""Daemons end cleanly when they are asked to, come back after a kill, and do not wait for the dead or the revoked.

At the end no secret of the fleet stands in a log, in metrics or in the arguments of a process.
"""

import base64
import http.client
import pathlib
import re
import signal
import sys
import time

from fleet import Fleet, arguments_of, set_keys, wait_for

STOP_SECONDS = 10
ROUND_SECONDS = 8
# A training that no test waits for.
LONG = {"epochs": 10_000, "learning_rate": 1e-6}
SHORT = {"epochs": 2, "learning_rate": 0.05}
SETTINGS = {"round": {"cohort": 4, "updates_min": 2, "cohort_min": 2, "deadline_s": ROUND_SECONDS},
            "limits": {"heartbeat_s": 2}}


class StopTest:
    def __init__(self, fleet):
        self.fleet = fleet

    def stop_daemon(self, daemon, number, when):
        """It ends by itself with status 0, in time, and leaves no run.json."""
        directory = pathlib.Path(daemon.command[-1])
        assert (directory / "run.json").exists()
        begun = time.monotonic()
        status = daemon.stop(number, patience=2 * STOP_SECONDS)
        seconds = time.monotonic() - begun
        assert status == 0, f"{daemon.name} {when}: status {status} on signal {number}"
        assert seconds < STOP_SECONDS, f"{daemon.name} {when}: took {seconds:.1f} s to end"
        assert not (directory / "run.json").exists(), f"{daemon.name} {when} left its run.json"
        assert daemon.events()[-1]["event"] == "stopped"
        print(f"{daemon.name} {when}: ended in {seconds:.2f} s")

    def set_training(self, settings):
        """What the coordinator asks of nodes from its next start on."""
        fleet = self.fleet
        set_keys(fleet.directory / "coordinator.toml", {"training": settings})
        assert fleet.coordinator.start()
        fleet.wait_until_ready()

    def wait_until_training(self, nodes):
        for node in nodes:
            wait_for(f"{node.name} trains", lambda: any(
                task["type"] == "train" and task["state"] == "running"
                for task in (self.fleet.node_status(node) or {"tasks": []})["tasks"]))

    # ---- Scenarios

    def stop_idle_daemons(self):
        """Both signals, with nothing to do."""
        fleet = self.fleet
        for daemon in (fleet.nodes[0], fleet.coordinator):
            for number in (signal.SIGTERM, signal.SIGINT):
                self.stop_daemon(daemon, number, f"idle, {signal.Signals(number).name}")
                assert daemon.start()
        fleet.wait_until_ready()
        fleet.run_rounds()
        fleet.wait_until_served()

    def stop_in_mid_round(self):
        """A node that trains and a coordinator that waits for it end in time; the round goes on afterwards."""
        fleet = self.fleet
        self.stop_daemon(fleet.coordinator, signal.SIGTERM, "idle")
        self.set_training(LONG)
        fleet.operate("round", "start", "--count", "1")
        self.wait_until_training(fleet.nodes)
        self.stop_daemon(fleet.nodes[0], signal.SIGTERM, "while it trains")
        self.stop_daemon(fleet.nodes[1], signal.SIGINT, "while it trains")
        self.stop_daemon(fleet.coordinator, signal.SIGTERM, "in a round")
        assert fleet.coordinator.start() and fleet.nodes[0].start() and fleet.nodes[1].start()
        fleet.wait_until_ready()
        assert fleet.ask("round", "status")["state"] == "training", "the round went on after the restart"
        self.stop_daemon(fleet.coordinator, signal.SIGINT, "in the same round")
        self.set_training(SHORT)  # The round keeps its plan, and ends at its deadline without updates.
        fleet.wait_until_idle()
        last = fleet.rounds()[-1]
        assert last["state"] == "failed" and last["accepted"] == 0, last
        fleet.run_rounds()

    def kill_the_coordinator(self):
        """It comes back, and so do the nodes."""
        fleet = self.fleet
        before = fleet.wait_until_served()
        fleet.operate("round", "start", "--count", "2")
        fleet.coordinator.kill()
        assert fleet.coordinator.start()
        fleet.wait_until_ready()
        fleet.run_rounds()
        assert fleet.wait_until_served() > before
        assert "intact" in fleet.operate("audit", "--verify")

    def kill_two_nodes_in_mid_round(self):
        """The round closes without them at its deadline at the latest, and they come back."""
        fleet = self.fleet
        dead = fleet.nodes[2:]
        self.stop_daemon(fleet.coordinator, signal.SIGTERM, "idle")
        self.set_training({"epochs": 150, "learning_rate": 0.001})  # A second, to be killed in.
        fleet.operate("round", "start", "--count", "1")
        self.wait_until_training(dead)
        begun = time.monotonic()
        for node in dead:
            node.kill()
        fleet.wait_until_idle()
        seconds = time.monotonic() - begun
        last = fleet.rounds()[-1]
        assert last["state"] == "published" and last["accepted"] == 2 and last["invited"] == 4, last
        assert seconds < ROUND_SECONDS + 10, f"two dead nodes held the round for {seconds:.1f} s"
        print(f"a round with two nodes killed took {seconds:.1f} s; its deadline is {ROUND_SECONDS} s")
        for node in dead:
            assert node.start()
        fleet.wait_until_ready()
        fleet.wait_until_served()

    def revoke_a_node(self):
        """It is told, takes part in no round, and stays away; the others go on."""
        fleet, node = self.fleet, self.fleet.nodes[3]
        key = node.events("started")[-1]["node"]
        fleet.operate("node", "revoke", key[:12])
        told = wait_for("the revoked node is told", lambda: [
            event for event in node.events() if event.get("reason") == "revoked"])
        print(f"the revoked node says: {told[0]['event']}")
        assert {entry["key"]: entry["state"] for entry in fleet.ask("nodes")}[key] == "revoked"
        fleet.run_rounds()
        last = fleet.rounds()[-1]
        assert last["state"] == "published" and last["invited"] == 3 and last["accepted"] == 3, last
        self.stop_daemon(node, signal.SIGTERM, "revoked")
        assert node.start()
        wait_for("it is told again after a restart", lambda: len([
            event for event in node.events() if event.get("reason") == "revoked"]) > len(told))
        wait_for("a revoked node goes on to answer", lambda: (fleet.node_status(node) or {}).get("serving"))
        entry = next(entry for entry in fleet.ask("nodes") if entry["key"] == key)
        assert not entry["connected"], entry

    def check_secrets(self):
        """Neither in logs, nor in metrics, nor in what `ps` shows."""
        fleet = self.fleet
        assert len(fleet.secrets) == 2 + fleet.count
        secrets = {secret for secret in fleet.secrets}
        secrets |= set(re.findall(r"[A-Za-z0-9_-]{40,}", " ".join(fleet.secrets)))
        for file in [*fleet.folder.rglob("*.key")]:
            secrets |= forms_of(file.read_bytes())
        shown = {f"{daemon.name}'s log": daemon.log.read_text() for daemon in [fleet.coordinator, *fleet.nodes]}
        shown["the coordinator's metrics"] = get_metrics(fleet.coordinator.ready["admin"])
        for node in fleet.nodes:
            shown[f"{node.name}'s metrics"] = get_metrics(node.ready["api"])
        for daemon in [fleet.coordinator, *fleet.nodes]:
            assert daemon.alive()
            shown[f"{daemon.name}'s arguments"] = pathlib.Path(f"/proc/{daemon.process.pid}/cmdline").read_text()
            shown[f"{daemon.name}'s run.json"] = (pathlib.Path(daemon.command[-1]) / "run.json").read_text()
        shown["the status"] = fleet.operate("status", "--json") + fleet.operate("nodes", "--json")
        shown["the audit log"] = fleet.operate("audit")
        key = fleet.nodes[0].events("started")[-1]["node"]
        assert any(key in text for text in shown.values()), "what is not secret is found in this way"
        for where, text in shown.items():
            assert text, where
            leaked = [secret for secret in secrets if secret.lower() in text.lower()]
            assert not leaked, f"{len(leaked)} secrets in {where}"
        print(f"none of {len(secrets)} forms of secrets in {len(shown)} places, {sum(map(len, shown.values()))} characters")


def forms_of(content):
    """How the content of a key file may be shown."""
    text = content.decode("latin1").strip()
    forms = {text} | set(re.findall(r"[A-Za-z0-9+/_=-]{32,}", text))
    raw = {content} | {bytes.fromhex(form) for form in forms if re.fullmatch(r"([0-9a-fA-F]{2})+", form)}
    for value in raw:
        forms |= {value.hex(), base64.b64encode(value).decode().rstrip("="), base64.urlsafe_b64encode(value).decode().rstrip("=")}
    return {form for form in forms if len(form) >= 32}


def get_metrics(address):
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200, address
    return answer.read().decode()


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    with Fleet(programs, nodes=4, settings=SETTINGS) as fleet:
        fleet.start_all()
        test = StopTest(fleet)
        test.stop_idle_daemons()
        test.stop_in_mid_round()
        test.kill_the_coordinator()
        test.kill_two_nodes_in_mid_round()
        test.revoke_a_node()
        test.check_secrets()
        for daemon in [fleet.coordinator, *fleet.nodes]:
            test.stop_daemon(daemon, signal.SIGTERM, "at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
