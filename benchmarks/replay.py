"""How the kernels of the library differ between two commits: process replay.

Every library blueprint is planned by the code of each commit, in a process of its own over a copy that `git
archive` makes in a temporary folder; nothing is built. Compared are the Triton source of each kernel, its
arguments, grid and configurations, what runs as a library call instead, and the templates. Kernels are told
apart by what they are, not by their number in the plan, so a kernel more does not change those behind it.

    python -m benchmarks.replay [BASE [COMMIT]]     BASE is HEAD, COMMIT the working tree, unless given

Prints one line and exits with 0 when nothing differs; else prints what does, and exits with 1.
"""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKING_TREE = "."
DIRECTIONS = ("forward", "backward")
TREES = ("esper", "kernels", "grammar", "blueprints")
"""What of a commit the compiler consists of."""

_NUMBER = re.compile(r"^([a-z]+(?:_[a-z]+)*?)_\d+(?=_|$)")

Kernels = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class State:
    """The library at one commit. label: for people. templates: text by file.

    blueprints: for each name the kernels of each direction, in order, and `outside`, its library calls; or
    `error`, why it is not planned.
    """

    label: str
    templates: Mapping[str, str]
    blueprints: Mapping[str, Mapping[str, Any]]


# --- in the process of one commit ---


def emit(precision: str, names: Sequence[str]) -> dict[str, Any]:
    """What the `esper` on the import path generates for each blueprint."""
    from esper.lang import library

    found = {}
    for name in names or [entry.name for entry in library()]:
        try:
            found[name] = planned(name, precision)
        except Exception as error:  # noqa: BLE001 - of an older commit: what it says is what is compared
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def planned(name: str, precision: str) -> dict[str, Any]:
    from esper.lang import lower
    from esper.urza.compiler import make_programs

    programs = make_programs(lower(name, precision=precision))
    found: dict[str, Any] = {direction: [] for direction in DIRECTIONS}
    for _, launch, kernel in programs.launches():
        text = {"name": kernel.name, "source": unnumbered(kernel.source, kernel.entry)}
        text["launch"] = launched(kernel.to_json(), launch)
        found[kernel.direction].append(text)
    return found | {"outside": list(programs.outside_calls)}


def launched(kernel: Mapping[str, Any], launch: Any) -> str:
    """How a kernel is launched: its arguments with their buffers' sizes, its grid, its configurations."""
    sizes = {name: str(size) for name, size in launch.sizes.items()}
    lines = [f"argument {argument} {sizes.get(argument[0], '')}".rstrip() for argument in kernel["arguments"]]
    lines += [
        f"grid {kernel['grid']}",
        f"constants {kernel['constexprs']}, {kernel['num_warps']} warps, {kernel['num_stages']} stages",
    ]
    lines += [f"else {other}" for other in kernel.get("alternatives", [])]
    return "\n".join(lines)


def unnumbered(source: str, entry: str) -> str:
    """The source with the kernel's number in the plan left out of its name."""
    return source.replace(entry, stem(entry))


def stem(name: str) -> str:
    return _NUMBER.sub(r"\1", name)


# --- over both commits ---


def require_commit(repository: Path, commit: str) -> None:
    """Raises SystemExit where git does not know `commit`."""
    git = ["git", "-C", str(repository), "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    if subprocess.run(git, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(f"git has no `{commit}`")


def state_of(repository: Path, commit: str, precision: str, names: Sequence[str]) -> State:
    """Raises SystemExit where the commit lacks the compiler, or its code does not run."""
    if commit == WORKING_TREE:
        return read_state(repository, "the working tree", precision, names)
    with tempfile.TemporaryDirectory(prefix="esper-replay-") as folder:
        git = ["git", "-C", str(repository), "archive", commit, "--", *TREES]
        archive = subprocess.run(git, capture_output=True, check=False)
        if archive.returncode:
            raise SystemExit(f"`{commit}` has no compiler: {archive.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        return read_state(Path(folder), commit, precision, names)


def read_state(tree: Path, label: str, precision: str, names: Sequence[str]) -> State:
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--emit",
        "--precision",
        precision,
        "--blueprints",
        ",".join(names),
    ]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the code of {label} does not run")
    answer = json.loads(done.stdout)
    if Path(answer["esper"]).resolve() != (tree / "esper" / "__init__.py").resolve():
        raise SystemExit(f"{label} ran the code of {answer['esper']}")
    templates = {file.name: file.read_text("utf-8") for file in sorted((tree / "kernels").glob("*.py"))}
    return State(label, templates, answer["blueprints"])


def differences(before: State, after: State) -> Iterator[str]:
    """Paragraphs on what differs, templates first, then blueprint by blueprint."""
    for name in sorted({*before.templates, *after.templates}):
        old, new = (state.templates.get(name, "") for state in (before, after))
        if old != new:
            yield f"template kernels/{name}\n{diff(old, new)}"
    for name in sorted({*before.blueprints, *after.blueprints}):
        found = [state.blueprints.get(name) for state in (before, after)]
        if found[0] == found[1]:
            continue
        if any(one is None or "error" in one for one in found):
            described = ["is absent" if one is None else one.get("error", "is planned") for one in found]
            yield f"{name}: {described[0]} -> {described[1]}"
            continue
        yield from of_blueprint(name, *found)


def of_blueprint(name: str, before: Any, after: Any) -> Iterator[str]:
    """What differs of one blueprint that both commits plan."""
    if before["outside"] != after["outside"]:
        calls = [", ".join(one["outside"]) or "none" for one in (before, after)]
        yield f"{name}: library calls: {calls[0]} -> {calls[1]}"
    for direction in DIRECTIONS:
        old, new = before[direction], after[direction]
        parts = list(of_kernels(old, new))
        if parts:
            yield f"{name}, {direction}: {len(old)} -> {len(new)} kernels"
            yield from parts


def of_kernels(before: Kernels, after: Kernels) -> Iterator[str]:
    """What differs between two sequences of kernels; those that changed place alone are none of it."""
    matcher = difflib.SequenceMatcher(None, [*map(text_of, before)], [*map(text_of, after)], autojunk=False)
    for tag, first, last, other_first, other_last in matcher.get_opcodes():
        if tag == "equal":
            continue
        old, new = list(before[first:last]), list(after[other_first:other_last])
        for one in old:
            same = next((other for other in new if stem(other["name"]) == stem(one["name"])), None)
            if same is None:
                yield f"- {one['name']}\n{indented(text_of(one), '- ')}"
            else:
                new.remove(same)
                yield f"* {same['name']}\n{diff(text_of(one), text_of(same))}"
        yield from (f"+ {other['name']}\n{indented(text_of(other), '+ ')}" for other in new)


def text_of(kernel: Mapping[str, str]) -> str:
    return f"{kernel['source'].rstrip()}\n\n{kernel['launch']}"


def diff(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return indented("\n".join([*lines][2:]), "")


def indented(text: str, mark: str) -> str:
    return "\n".join(f"    {mark}{line}".rstrip() for line in text.splitlines())


def total(state: State) -> int:
    return sum(len(found.get(way, ())) for found in state.blueprints.values() for way in DIRECTIONS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", default="HEAD")
    parser.add_argument("commit", nargs="?", default=WORKING_TREE)
    parser.add_argument("--blueprints", default="", help="names with commas between; by default all")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--repository", type=lambda text: Path(text).resolve(), default=ROOT)
    parser.add_argument("--stat", action="store_true", help="name what differs without showing it")
    parser.add_argument("--emit", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [name for name in arguments.blueprints.split(",") if name]
    if arguments.emit:
        import esper

        print(json.dumps({"esper": esper.__file__, "blueprints": emit(arguments.precision, names)}))
        return 0
    for commit in {arguments.base, arguments.commit} - {WORKING_TREE}:
        require_commit(arguments.repository, commit)
    with ThreadPoolExecutor(2) as pool:
        before, after = pool.map(
            lambda commit: state_of(arguments.repository, commit, arguments.precision, names),
            (arguments.base, arguments.commit),
        )
    for state in (before, after):
        if not total(state):
            reasons = {found.get("error", "it has no kernels") for found in state.blueprints.values()}
            raise SystemExit(f"{state.label} plans nothing: {'; '.join(sorted(reasons)) or 'no blueprint'}")
    found = list(differences(before, after))
    if not found:
        print(f"{len(after.blueprints)} blueprints, {total(after)} kernels: nothing differs")
        return 0
    print(f"{before.label} -> {after.label}: {total(before)} -> {total(after)} kernels\n")
    print("\n".join(one.partition("\n")[0] if arguments.stat else one for one in found))
    return 1


if __name__ == "__main__":
    sys.exit(main())
