"""A node's disk damages or loses what it has stored: it says so, fetches it anew, and takes part again."""

import sys

from fleet import Fleet, arguments_of, wait_for

W0_BYTES = (64 * 16 + 16 + 16 * 10 + 10) * 4  # The only fp32 snapshot of the model that tests/e2e/fleet.py specifies.


def flip(blob):
    """One bit, as a disk would."""
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 0x10
    blob.write_bytes(content)


def lose(blob):
    blob.unlink()


class DamageTest:
    def __init__(self, fleet):
        self.fleet = fleet

    def blobs(self, node):
        return [path for path in (self.fleet.directory_of(node) / "blobs").iterdir() if len(path.name) == 64]

    def harm(self, node, what, how, chosen):
        """While its daemon is down. Then it serves the newest version, and its update is in the next one."""
        fleet = self.fleet
        newest = fleet.wait_until_served()
        assert node.stop() == 0
        harmed = [blob for blob in self.blobs(node) if chosen(blob)]
        assert harmed, what
        for blob in harmed:
            how(blob)
        assert node.start()
        fleet.wait_until_ready()
        wait_for(f"{node.name} serves version {newest}",
                 lambda: (fleet.node_status(node)["serving"] or {}).get("version") == newest)
        fleet.run_rounds()
        last = fleet.rounds()[-1]
        assert last["state"] == "published" and last["accepted"] == fleet.count, (what, last)
        fleet.wait_until_served()
        said = [event for event in node.events_of_life() if event["event"] == "content_damaged"]
        assert said and all(event["reason"] == "corrupt_content" for event in said), what
        print(f"{what}: {len(said)} contents fetched anew", flush=True)


def main():
    [programs] = arguments_of(__doc__, ["PROGRAMS"])
    with Fleet(programs) as fleet:
        fleet.start_all()
        fleet.run_rounds()
        test = DamageTest(fleet)
        node = fleet.nodes[0]
        test.harm(node, "one bit of w_0", flip, lambda blob: blob.stat().st_size == W0_BYTES)
        test.harm(node, "one bit of everything", flip, lambda blob: True)
        test.harm(node, "w_0 is gone", lose, lambda blob: blob.stat().st_size == W0_BYTES)
        test.harm(node, "everything is gone", lose, lambda blob: True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
