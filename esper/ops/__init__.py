"""The operators: one entry each, grouped by family; importing this package fills the table of `esper.ir`.

Every module here is imported, so a family needs to be named nowhere else. Entries name their torch
references, which live in `esper.ops.reference`, and must not import torch.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(iter_modules(__path__), key=lambda module: module.name):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")
