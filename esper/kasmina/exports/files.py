"""A grown network as files that need torch alone: `model.py`, its weights, and a `torch.export` program.

`model.py` defines `apply(host)`, which turns the host as it was before it grew into the grown network. Its
grown parts are readable classes, as `esperc compile --emit torch` writes them.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from esper.files import FileUnwritable, write_whole
from esper.kasmina.errors import FileOfOthers, SeedWithoutGraph
from esper.kasmina.exports import export, exported
from esper.kasmina.exports.merged_source import MergedSource, lines_of, statements
from esper.kasmina.host import blending, hook, nested
from esper.kasmina.lifecycle.bank import slots
from esper.leyline.stages import SeedStage
from esper.urza.eager.module_text import class_name, module_text
from esper.urza.run.seed import CompiledSeed

MODEL, WEIGHTS, PROGRAM = "model.py", "weights.safetensors", "program.pt2"
BROUGHT = (
    hook._key,
    hook.select,
    hook.replace,
    nested.dense,
    nested.shaped_like,
    blending.blend,
    export.Grown,
    export.run_modules,
)
"""What `Grown` is made of: the same code that an export in memory runs."""
IMPORTS = (
    "import copy",
    "import json",
    "from collections.abc import Mapping",
    "from pathlib import Path",
    "from typing import Any, cast",
    "import torch",
    "from torch import Tensor, nn",
)


HEAD = "A network that Esper grew."
"""The first line of every file written here, by which it is known. On the first two lines, where Python looks
for the name of an encoding, stands nothing that a user or a file has named."""
USE = """`apply(host)` puts the grown parts into the host, built as it was before it grew, and gives the whole
the weights that lie beside this file. It needs torch alone."""


@dataclass(frozen=True)
class Exported:
    """The files written; `refusal` is torch.export's reason where it wrote no program."""

    files: tuple[Path, ...]
    refusal: str | None


def write_export(model: nn.Module, folder: Path, example: Any = None, doc: str = "") -> Exported:
    """Writes the grown `model` into `folder`, which is made, or over the files of an earlier export.

    example: a batch as `attach` takes it, for `torch.export`; without one no program is written.
    doc: said of the network at the head of `model.py`; any text, which is escaped.
    Raises LiveSeeds while a seed's fate is open, SeedWithoutGraph, NotWritten for an operator that has no
    form in torch alone, FileOfOthers where the folder holds such files that no export wrote, FileUnwritable.
    """
    _check_own(folder)
    plain = export.export(model)
    text = model_text(model, doc)
    weights = {name: value.contiguous().clone() for name, value in _tensors(plain).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnwritable(path=folder, reason=error.strerror) from error
    files = [folder / MODEL, folder / WEIGHTS]
    write_whole(files[0], text)
    write_whole(files[1], save(weights, {"format": "pt"}))
    refusal = "it needs an example batch"
    if example is not None:
        program, refusal = exported_program(plain, example)
        if program is not None:
            files.append(folder / PROGRAM)
            write_whole(files[2], program)
    return Exported(tuple(files), refusal or None)


def _check_own(folder: Path) -> None:
    """Raises FileOfOthers unless what is in `folder` under the names of an export is one's."""
    model = folder / MODEL
    try:
        with model.open("rb") as file:
            is_own = file.readline().strip() == f'"""{HEAD}'.encode()
    except OSError:
        is_own = False
    found = [folder / name for name in (MODEL, WEIGHTS, PROGRAM) if os.path.lexists(folder / name)]
    if found and not is_own:
        raise FileOfOthers(path=found[0])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def exported_program(plain: nn.Module, example: Any) -> tuple[bytes | None, str]:
    """`torch.export`'s program of the network in eval mode, its batch size free; else None and its reason."""
    named = dict(example) if isinstance(example, Mapping) else {}
    placed = () if named else example if isinstance(example, tuple) else (example,)
    shapes = {name: _free(value) for name, value in named.items()} or tuple(_free(value) for value in placed)
    buffer = io.BytesIO()
    try:
        program = torch.export.export(
            plain.eval(), placed, named, dynamic_shapes=shapes if not named else None
        )
        torch.export.save(program, buffer)
    except Exception as error:  # noqa: BLE001 (whatever torch.export stumbles over is the answer)
        lines = str(error).strip().splitlines()
        return None, f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    return buffer.getvalue(), ""


def _free(value: Any) -> dict[int, Any] | None:
    """Says that the batch size of a tensor is free."""
    return {0: torch.export.Dim.AUTO} if isinstance(value, Tensor) and value.dim() else None


def model_text(model: nn.Module, doc: str = "") -> str:
    """The text of `model.py` for a model with fossilized seeds."""
    own = inspect.getsource(exported)
    brought = [lines_of(own, node) for node in statements(ast.parse(own))]
    file = MergedSource(IMPORTS, [*(part.__name__ for part in BROUGHT), *dir(exported)])
    entries = []
    for slot in slots(model).in_stages({SeedStage.FOSSILIZED}):
        if not isinstance(slot.seed, CompiledSeed):
            raise SeedWithoutGraph(slot=slot.name, kind=type(slot.seed).__name__)
        kind = file.add(module_text(slot.seed.ir), class_name(slot.seed.ir))
        entries.append(f"    {slot.name!r}: ({kind}, {slot.hook.output!r}, {slot.hook.mode!r}),")
    table = "{\n" + "\n".join(entries) + "\n}" if entries else "{}"
    brought = [
        part.replace(" = {}", f" = {table}", 1) if part.startswith("PARTS") else part for part in brought
    ]
    grown = [inspect.getsource(part).rstrip() for part in BROUGHT]
    said = f"{_in_docstring(doc)}\n\n" if doc else ""
    head = f'"""{HEAD}\n\n{said}{USE}\n"""\n\nfrom __future__ import annotations\n\n{file.imports()}'
    return "\n\n\n".join([head, *file.parts, *grown, *brought]) + "\n"


def _in_docstring(text: str) -> str:
    """`text` as it stands between triple quotes, whatever it holds."""
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character == "\n" or (character.isprintable() and character not in '\\"'):
        return character
    return f"\\{character}" if character in '\\"' else character.encode("unicode_escape").decode()
