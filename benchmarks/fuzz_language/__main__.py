"""A coverage-guided fuzzer for the language: `make fuzz`, or `python -m benchmarks.fuzz_language --inputs N`.

atheris (libFuzzer) instruments `esper.lang`, keeps each input that reaches code which none before it
reached, and mutates those: bytes by libFuzzer, tokens by `tests.lang.mutations`. Every input has to obey
`tests.lang.laws.require_treated` in two seconds of processor time and two gigabytes. The folder `.fuzz/`,
which git ignores, holds the inputs (`corpus/`), one file for each kind of failure (`finds/`) and the count,
so that a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["esper.lang"]):
    from tests.lang.laws import SECONDS, processor_time, require_treated
    from tests.lang.mutations import mutated, seeds, vocabulary

FOLDER = Path(__file__).resolve().parents[2] / ".fuzz"
BYTES = 4096
MEMORY = 2 * 1024**3
EVERY = 1000  # inputs between two lines of the record
SHARE_OF_BYTES = 0.25  # of the mutations; the others change tokens
SHARE_OF_SEEDS = 0.6  # of those that start from a seed again: what the corpus gathers is mostly broken


class Campaign:
    """The inputs that were tried so far, by how far they came, and the failures by kind."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._file = folder / "counts.json"
        held = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.counts: Counter[str] = Counter(held)
        self.finds = {path.stem for path in (folder / "finds").glob("*.txt")}
        self._started = time.process_time()
        self._before = self.total

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def run_one(self, data: bytes) -> None:
        try:
            with processor_time(SECONDS):
                outcome = require_treated(data)
        except Exception as error:  # noqa: BLE001  (whatever is raised is the find)
            outcome = "failed"
            self._keep(data, error)
        self.counts[outcome] += 1
        if self.total % EVERY == 0 or self.total == self._most:
            self.write()
        if self.total == self._most:
            os._exit(0)  # libFuzzer counts the runs of its own start, too

    def _keep(self, data: bytes, error: Exception) -> None:
        """Writes down one input for each exception and place."""
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if "/esper/" in frame.filename]
        place = f"{Path(places[-1].filename).stem}-{places[-1].lineno}" if places else "law"
        if not places or isinstance(error, AssertionError):
            place += "-" + hashlib.sha256(str(error)[:30].encode()).hexdigest()[:6]
        kind = f"{type(error).__name__}-{place}"
        if kind in self.finds:
            return
        self.finds.add(kind)
        folder = self._folder / "finds"
        folder.mkdir(exist_ok=True)
        (folder / f"{kind}.esp").write_bytes(data)
        lines = traceback.format_exception(error)
        (folder / f"{kind}.txt").write_text("".join(lines[:5] + lines[-20:]), encoding="utf-8")
        print(f"find: {folder / kind}.esp", flush=True)

    def write(self) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.counts), encoding="utf-8")
        os.replace(part, self._file)
        rate = (self.total - self._before) / max(1e-3, time.process_time() - self._started)
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        print(f"{self.total} inputs ({told}), {len(self.finds)} finds, {rate:.0f} a second", flush=True)


def change(data: bytes, most: int, seed: int) -> bytes:
    """A mutation of `data` by libFuzzer, or one of its tokens, or of a seed's."""
    generator = random.Random(seed)
    if generator.random() < SHARE_OF_BYTES:
        found: bytes = atheris.Mutate(data, most)
        return found
    text = data.decode("utf-8", errors="replace")
    if generator.random() < SHARE_OF_SEEDS:
        text = generator.choice(seeds())
    return mutated(text, generator).encode("utf-8", errors="replace")[:most]


def prepare(folder: Path) -> None:
    """The seeds and the dictionary, where libFuzzer reads them."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for text in seeds():
        data = text.encode()[:BYTES]
        (folder / "corpus" / hashlib.sha1(data).hexdigest()).write_bytes(data)
    words = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in vocabulary())
    (folder / "words.dict").write_text("".join(f'"{word}"\n' for word in words), encoding="ascii")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--inputs", type=int, default=1_000_000, help="stop at so many, earlier runs included"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    prepare(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
    campaign = Campaign(folder, arguments.inputs)
    if campaign.total >= arguments.inputs:
        print(f"{campaign.total} inputs were tried: nothing is left to do")
        return
    options = [
        f"-max_len={BYTES}",
        f"-dict={folder / 'words.dict'}",
        "-rss_limit_mb=0",
        "-timeout=600",
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], campaign.run_one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
