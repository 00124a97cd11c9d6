"""A process of its own that writes to a store, run by the tests: `writer.py STORE NAME COUNT` (COUNT 0: for ever).

Prints the number of each approval once the store has acknowledged it.
"""

import sys
from itertools import count, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from backend.store import Approval, ExampleInfo, StoredExample
from backend.store.sqlite import SqliteStore

PROJECT, AT, TARGETS = "12.1700000000", "2026-03-01T12:00:00Z", ("Cat", "Dog")
ARRAYS_BYTES = 20_000


def main(path: str, name: str, limit: str) -> None:
    store = SqliteStore(Path(path))
    first = 1_000_000 * int(name)
    for annotation in islice(count(first), int(limit) or None):
        examples = [
            StoredExample(
                ExampleInfo(f"{annotation}/{target}", PROJECT, target, 7, annotation, "drawn", None, AT, 0.5),
                bytes(ARRAYS_BYTES),
                bytes(ARRAYS_BYTES),
            )
            for target in TARGETS
        ]
        store.put_approval(Approval(PROJECT, 7, annotation, "drawn", None, AT, "digest"), examples)
        store.add_event(PROJECT, "ANNOTATION_CREATED", {"annotation": annotation}, 1.0)
        sys.stdout.write(f"{annotation}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
