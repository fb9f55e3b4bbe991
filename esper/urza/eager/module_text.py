"""A blueprint as a file for people: one `nn.Module` over torch alone, with the seed's names for its weights.

The file computes what the torch tier computes. Layers of `torch.nn` stand where a node's weights are a
layer's; other weights are in a `ParameterDict`. An operator whose reference is more than one call of torch
brings its function along. A value that only the next line reads is called `h`.
"""

from __future__ import annotations

import itertools
import keyword
import math
from collections.abc import Iterable

from esper.ir.dims import Dim, Quotient, Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import DType
from esper.ops.rules import attribute_number
from esper.passes import run_passes
from esper.passes.manager import CLEAN
from esper.urza.eager.module_expressions import INFIX, WRITTEN
from esper.urza.eager.module_functions import Functions
from esper.urza.eager.module_layers import TORCH_NAMES, Layer, layer_of
from esper.urza.eager.module_layout import Call, Expression, docstring, statement
from esper.urza.eager.torch_tier import updated_in_place

_STANDARD = ("collections.abc", "functools", "math", "typing")
_IMPORTED = frozenset({"Any", "Callable", "F", "Mapping", "Sequence", "Tensor"})
_INERT = frozenset({"dropout", "feature_dropout", "drop_path", "gaussian_noise"})
"""Operators that do nothing in eval mode."""

TRAINING = "self.training"


def module_text(ir: BlueprintIR, doc: str = "") -> str:
    """The text of a Python file that defines `class_name(ir)`. doc: of the blueprint.

    Raises `NotWritten` for an operator whose reference needs more than torch.
    """
    return _Writer(run_passes(ir, CLEAN)).file(doc)


def class_name(ir: BlueprintIR) -> str:
    """`mlp_block` is `MlpBlock`; what the file imports under that name makes it a `…Block`."""
    name = "".join(part[:1].upper() + part[1:] for part in ir.name.split("_"))
    return f"{name}Block" if name in _IMPORTED else name


class _Writer:
    def __init__(self, ir: BlueprintIR) -> None:
        self.ir = ir
        self.functions = Functions()
        self.updated = updated_in_place(ir)
        self.layers = {n.name: layer for n in ir.nodes if (layer := layer_of(ir, n, self.updated))}
        self.names: dict[Value, str] = {}
        self.taken = {"self", "h", "seed", "F", "nn", "torch", "math"} | set(keyword.kwlist)
        self.taken |= {(OPERATORS[node.op].reference or "").rpartition(":")[2] for node in ir.nodes}
        self.sizes: dict[str, str] = {}
        self.lines: list[str] = []
        self.uses_functional = False

    # --- the file ---

    def file(self, doc: str) -> str:
        forward, made = self.forward(), self.made()
        body = "\n".join(
            [
                f"class {class_name(self.ir)}(nn.Module):",
                *docstring(self.documentation(doc), 1),
                "",
                *(["    random_seed: Tensor", ""] if self.ir.of("seed") else []),
                "    def __init__(self) -> None:",
                "        super().__init__()",
                *made,
                "",
                *forward,
            ]
        )
        functions = [body, *self.functions.texts]
        if self.functions.constants:
            functions.insert(0, self.functions.constants)
        if self.functions.tables:
            functions.append(self.functions.tables)
        head = f'"""`{self.ir.name}`, written by `esperc compile --emit torch`."""'
        parts = [f"{head}\n\nfrom __future__ import annotations\n\n{self.imports(functions)}"]
        gap = "\n\n" if self.functions.constants else "\n\n\n"
        return parts[0] + gap + "\n\n\n".join(functions) + "\n"

    def imports(self, texts: Iterable[str]) -> str:
        wanted: dict[str, set[str]] = {}
        plain = set()
        for line in self.functions.imports:
            if line.startswith("from "):
                module, _, name = line.removeprefix("from ").partition(" import ")
                wanted.setdefault(module, set()).add(name)
            else:
                plain.add(line)
        code = "\n".join(texts)
        if "F." in code:
            plain.add("import torch.nn.functional as F")
        if "torch." in code:
            plain.add("import torch")
        if ": Any = nn.Module()" in code:
            wanted.setdefault("typing", set()).add("Any")
        wanted.setdefault("torch", set()).update(("nn", "Tensor"))
        froms = {module: f"from {module} import {', '.join(sorted(n))}" for module, n in wanted.items()}
        ours = [*sorted(line for line in plain if line.split()[1] in _STANDARD)]
        ours += [froms[module] for module in sorted(froms) if module in _STANDARD]
        theirs = [*sorted(line for line in plain if line.split()[1] not in _STANDARD)]
        theirs += [froms[module] for module in sorted(froms) if module not in _STANDARD]
        return "\n".join([*ours, *([""] if ours else []), *theirs])

    def documentation(self, doc: str) -> list[str]:
        inputs = "\n".join(f"{self.variable(node)}: {_shape(node)}" for node in self.ir.inputs)
        results = ", ".join(_shape(self.ir.node(v.node), v.index) for _, v in self.ir.outputs)
        written = [part for part in doc.strip().split("\n\n") if part] or [f"The blueprint `{self.ir.name}`."]
        return [*written, f"{inputs}\nReturns {results}; {self.ir.parameters:,} parameters."]

    # --- __init__ ---

    def made(self) -> list[str]:
        """The statements that make layers, weights and buffers, then those that set them."""
        lines: list[str] = []
        done: set[str] = set()
        layers = {layer.scope: layer for layer in self.layers.values()}
        for node in (*self.ir.params, *self.ir.buffers):
            scope, _, last = node.name.rpartition(".")
            lines += self.containers(scope, done)
            if scope in layers:
                if scope not in done:
                    lines += statement(f"self.{scope} = ", layers[scope].made_by, 2)
            elif node.op == "param":
                lines += self.made_apart(node, scope, last, done)
            else:
                lines += self.made_buffer(node, scope, last, done)
            done.add(scope)
        if self.ir.of("seed"):
            self.functions.imports.add("import torch")
            lines.append('        self.register_buffer("random_seed", torch.randint(2**31, ()))')
        for scope, nodes in itertools.groupby(self.ir.params, lambda node: node.name.rpartition(".")[0]):
            begun = [(self.set(node, layers), node) for node in nodes]
            for beginning, alike in itertools.groupby(begun, lambda pair: pair[0]):
                if beginning is not None:
                    lines += self.set_all(scope, [node for _, node in alike], beginning)
        return lines

    def containers(self, scope: str, done: set[str]) -> list[str]:
        """The statements that make what `scope` lies in: a module for each call of a blueprint."""
        parts = scope.split(".")[:-1]
        outer = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        made = [name for name in outer if name not in done]
        done.update(made)
        return [f"        self.{name}{'' if '.' in name else ': Any'} = nn.Module()" for name in made]

    def made_apart(self, node: Node, scope: str, last: str, done: set[str]) -> list[str]:
        value = f"nn.Parameter({_new('empty', node)})"
        if not scope:
            return statement(f"self.{last} = ", value, 2)
        first = [] if scope in done else [f"        self.{scope} = nn.ParameterDict()"]
        return [*first, *statement(f'self.{scope}["{last}"] = ', value, 2)]

    def made_buffer(self, node: Node, scope: str, last: str, done: set[str]) -> list[str]:
        new = _new("ones" if node.attrs["init"] == "ones" else "zeros", node)
        first = [] if scope in done or not scope else [f"        self.{scope} = nn.ParameterDict()"]
        owner = f"self.{scope}" if scope else "self"
        return [*first, *statement("", Call(f"{owner}.register_buffer", (f'"{last}"', new)), 2)]

    def set_all(self, scope: str, nodes: list[Node], beginning: tuple[str, ...]) -> list[str]:
        """The statements that begin weights alike; many of one operator in a loop."""
        function, *arguments = beginning
        if len(nodes) < 3 or "[" not in self.weight(nodes[0]):
            calls = [Call(f"nn.init.{function}_", (self.weight(node), *arguments)) for node in nodes]
            return [line for call in calls for line in statement("", call, 2)]
        names = tuple(node.name.rpartition(".")[2] for node in nodes)
        loop = Call("", tuple(f'"{name}"' for name in names), ":")
        call = Call(f"nn.init.{function}_", (f"self.{scope}[name]", *arguments))
        return [*statement("for name in ", loop, 2), *statement("", call, 3)]

    def set(self, node: Node, layers: dict[str, Layer]) -> tuple[str, ...] | None:
        """How a weight begins: a function of `nn.init` and its arguments; None where torch's own will do."""
        scope, _, last = node.name.rpartition(".")
        init, gain = str(node.attrs["init"]), attribute_number(node.attrs, "gain")
        fan_in = node.attrs["fan_in"]
        assert isinstance(fan_in, int)
        if scope in layers and _begins_so(self.ir, layers[scope], last, init, gain, fan_in):
            return None
        match init:
            case "zeros" | "ones":
                return (init,)
            case "normal":
                return "normal", f"std={gain!r}"
            case "kaiming_normal":
                return "normal", f"std={gain * math.sqrt(2.0 / fan_in)!r}"
        bound = gain * math.sqrt((6.0 if init == "kaiming_uniform" else 1.0) / fan_in)
        return "uniform", f"-{bound!r}", f"{bound!r}"

    def weight(self, node: Node) -> str:
        """The expression for a weight or buffer."""
        scope, _, last = node.name.rpartition(".")
        if not scope:
            return f"self.{last}"
        layer = next((layer for layer in self.layers.values() if layer.scope == scope), None)
        if layer is not None:
            # Torch's stubs say that a convolution's bias may be None.
            may_lack = last == "bias" and layer.made_by.function.startswith("nn.Conv")
            return f'self.{scope}.get_parameter("bias")' if may_lack else f"self.{scope}.{last}"
        return f'self.{scope}["{last}"]' if node.op == "param" else f'self.get_buffer("{node.name}")'

    # --- forward ---

    def forward(self) -> list[str]:
        inputs = ", ".join(f"{self.variable(node)}: Tensor" for node in self.ir.inputs)
        returned = "Tensor" if len(self.ir.outputs) == 1 else "tuple[Tensor, ...]"
        return [f"    def forward(self, {inputs}) -> {returned}:", *self.statements()]

    def step(self, name: str) -> str:
        """The body of a loop as a function `name`, which returns a tuple."""
        self.is_step = True
        given = tuple(f"{self.variable(node)}: Tensor" for node in self.ir.inputs)
        head = statement("def ", Call(name, given, " -> tuple[Tensor, ...]:"), 0)
        return "\n".join([*head, *(line.removeprefix("    ") for line in self.statements())])

    def statements(self) -> list[str]:
        body = [node for node in self.ir.nodes if node.op not in ("input", "param", "buffer", "seed")]
        body = [node for node in body if not self.is_number(node)]
        for place, node in enumerate(body):
            following = body[place + 1] if place + 1 < len(body) else None
            self.write(node, following)
        if self.ir.of("seed"):
            self.lines = [
                "        seed = self.random_seed.clone()",
                f"        if {TRAINING}:",
                "            self.random_seed.add_(1)",
                *self.lines,
            ]
        self.lines = [*self.sizes_read(), *self.lines]
        self.write_updates()
        self.write_return()
        return self.lines

    def write(self, node: Node, following: Node | None) -> None:
        if node.op == "multi_head_attention" and node.operands[2] is None:
            self.write_heads(node, following)
            return
        if node.op == "scaled_dot_product_attention" and self.is_plain(node):
            given = tuple(self.value(operand) for operand in node.operands[:3])
            self.write_attention(node, given, following)
            return
        expression = self.expression(node)
        head = self.head(node, following)
        if node.op in _INERT:
            operand = node.operands[0]
            assert operand is not None
            target, held = head.removesuffix(" = "), self.value(operand)
            if target == held:
                self.lines.append(f"        if {TRAINING}:")
                self.lines += statement(head, expression, 3)
                return
            condition = f" if {TRAINING} else {held}"
            expression = f"{expression}{condition}"
        if node.op == "ensure_shape":
            x, shape = self.value(node.operands[0]), self.attribute(node.attrs["shape"])
            self.lines.append(f"        if {x}.shape != {shape}:")
            self.lines.append(f"            raise ValueError({str(node.attrs['because'])!r})")
            self.names[node.result()] = x
            return
        self.lines += statement(head, expression, 2)

    def is_plain(self, node: Node) -> bool:
        """Whether attention is torch's: without a mask, and read for its result alone."""
        return node.operands[3] is None and not self.is_read(node.result(1))

    def write_heads(self, node: Node, following: Node | None) -> None:
        """Attention of several heads: three projections, attention, and one more."""
        x, context, _, _, *weights = node.operands
        pairs = [
            tuple(None if w is None else self.value(w) for w in weights[at : at + 2]) for at in range(0, 8, 2)
        ]
        heads = node.attrs["heads"]
        shared = node.attrs["kv_heads"] or heads
        given = []
        for letter, pair, count, read in zip(
            "qkv", pairs, (heads, shared, shared), (x, *[context or x] * 2), strict=False
        ):
            projected = Call("F.linear", (self.value(read), *(w for w in pair if w is not None)))
            split = Call(f"{letter}.unflatten", ("-1", f"({count}, -1)"), ".transpose(1, 2)")
            name = self.fresh(letter)
            self.lines += statement(f"{name} = ", projected, 2)
            self.lines += statement(f"{name} = ", Call(f"{name}.unflatten", split.arguments, split.suffix), 2)
            given.append(name)
        self.write_attention(node, tuple(given), None)
        joined = Call("h.transpose", ("1", "2"), ".flatten(2)")
        last = Call("F.linear", (str(joined), *(w for w in pairs[3] if w is not None)))
        self.lines += statement(self.head(node, following), last, 2)

    def write_attention(self, node: Node, given: tuple[str, ...], following: Node | None) -> None:
        """Attention of `given`, into `h` where nothing is known to follow."""
        head = "h = " if node.op == "multi_head_attention" else self.head(node, following)
        attrs = {name: self.attribute(value) for name, value in node.attrs.items()}
        k, q = (node.attrs.get("kv_heads"), node.attrs.get("heads"))
        if node.op == "multi_head_attention":
            grouped = bool(k) and k != q
        else:
            types = [self.ir.type(operand) for operand in node.operands[:2] if operand is not None]
            grouped = types[0].shape[1] != types[1].shape[1]
        options = ["is_causal=True"] if node.attrs["causal"] else []
        options += [f"scale={attrs['scale']}"] if node.attrs.get("scale") else []
        options += ["enable_gqa=True"] if grouped else []
        plain = Call("F.scaled_dot_product_attention", (*given, *options))
        if not node.attrs["dropout"]:
            self.lines += statement(head, plain, 2)
            return
        arguments = [f"{name}={attrs.get(name, '0.0')}" for name in ("causal", "scale", "dropout", "offset")]
        if grouped:
            path = "esper.ops.reference.attention:attention_result"
            arguments = ["None", "seed", *arguments]
        else:
            path = "esper.ops.reference.attention:dropped_attention"
            arguments = ["seed", *arguments]
        name = self.functions.add(path)
        self.lines.append(f"        if {TRAINING}:")
        self.lines += statement(head, Call(name, (*given, *arguments)), 3)
        self.lines.append("        else:")
        self.lines += statement(head, plain, 3)

    def head(self, node: Node, following: Node | None) -> str:
        """The targets of an assignment; what only `following` reads is `h`."""
        results = [value for value in node.results if self.is_read(value)]
        if [value.index for value in results] == [0]:
            only_next = following is not None and self.ir.users(node.name) == (following,)
            leaves = any(value == results[0] for _, value in (*self.ir.outputs, *self.ir.updates))
            last = following is None and len(self.ir.outputs) == 1 and not self.is_step
            if node.op == "ensure_shape":
                return ""
            name = "h" if (only_next and not leaves) else self.fresh("y" if node.op in INFIX else node.name)
            self.names[results[0]] = name
            if last and leaves and not self.pending_updates():
                self.names.pop(results[0])
                self.returned = True
                return "return "
            return f"{name} = "
        targets = []
        for value in node.results:
            if value in results:
                self.names[value] = self.fresh(f"{node.name}_{value.index}" if value.index else node.name)
            targets.append(self.names.get(value, "_"))
        return f"{', '.join(targets)} = "

    returned = False
    is_step = False

    def pending_updates(self) -> list[tuple[str, Value]]:
        layered = {layer.scope for layer in self.layers.values()}
        return [(n, v) for n, v in self.ir.updates if n.rpartition(".")[0] not in layered]

    def is_read(self, value: Value) -> bool:
        if any(value == found for _, found in (*self.ir.outputs, *self.pending_updates())):
            return True
        return any(value in user.operands for user in self.ir.users(value.node))

    def expression(self, node: Node) -> Expression:
        layer = self.layers.get(node.name)
        if layer is not None:
            return Call(f"self.{layer.scope}", (self.value(node.operands[0]),))
        if node.op == "constant":
            return f"torch.tensor({node.attrs['value']!r}, dtype={self.attribute(node.type.dtype)})"
        entry = OPERATORS[node.op]
        attrs = {name: self.attribute(value) for name, value in node.attrs.items()}
        if entry.draws(node.attrs) and entry.undrawn:
            for name, value in entry.undrawn.items():
                if attrs[name] != repr(value):
                    attrs[name] = f"{attrs[name]} if {TRAINING} else {value!r}"
        if node.op == "batch_norm":
            attrs["training"] = TRAINING
        operands = [None if operand is None else self.value(operand) for operand in node.operands]
        only_first = all(not self.is_read(value) for value in node.results[1:])
        given = [operand for operand in operands if operand is not None]
        if node.op in WRITTEN and only_first:
            return WRITTEN[node.op](given, attrs)
        path = (entry.first_result_reference if only_first else None) or entry.reference
        assert path is not None, node.op
        arguments = ["None" if operand is None else operand for operand in operands]
        arguments += [f"{name}={value}" for name, value in attrs.items()]
        several = len(node.types) > 1 and not entry.first_result_reference
        return Call(self.function(path), tuple(arguments), "[0]" if several and only_first else "")

    def function(self, path: str) -> str:
        """What the function `module:name` is called in the file."""
        module, _, name = path.partition(":")
        if module == "torch":
            return f"torch.{name}"
        if module == "torch.nn.functional":
            return f"F.{name}"
        return self.functions.add(path)

    def value(self, value: Value | None) -> str:
        assert value is not None
        node = self.ir.node(value.node)
        if node.op == "seed":
            return "seed"
        if node.op in ("param", "buffer"):
            return self.weight(node)
        if node.op == "input":
            return self.variable(node)
        if self.is_number(node):
            return repr(node.attrs["value"])
        return self.names[value]

    def is_number(self, node: Node) -> bool:
        """Whether a constant is written as a number in each of its uses."""
        if node.op != "constant" or any(value.node == node.name for value in self.ir.results):
            return False
        return all(
            user.op in INFIX
            and any(o is not None and self.ir.node(o.node).op != "constant" for o in user.operands)
            for user in self.ir.users(node.name)
        )

    def write_updates(self) -> None:
        updates = self.pending_updates()
        if not updates:
            return
        self.lines += [f"        if {TRAINING}:", "            with torch.no_grad():"]
        for name, value in updates:
            owner = self.weight(self.ir.node(name))
            self.lines += statement("", Call(f"{owner}.copy_", (self.value(value),)), 4)

    def write_return(self) -> None:
        if not self.returned:
            values = ", ".join(self.value(value) for _, value in self.ir.outputs)
            comma = "," if self.is_step and len(self.ir.outputs) == 1 else ""
            self.lines.append(f"        return {values}{comma}")

    # --- names and sizes ---

    def variable(self, node: Node) -> str:
        if node.result() not in self.names:
            self.names[node.result()] = self.fresh(node.name)
        return self.names[node.result()]

    def fresh(self, name: str) -> str:
        """A variable's name that stands for nothing else; a result may bear the name of its layer."""
        first = name = name.replace(".", "_")
        number = itertools.count(2)
        while name in self.taken:
            name = f"{first}_{next(number)}"
        self.taken.add(name)
        return name

    def sizes_read(self) -> list[str]:
        """The statements that read the sizes that others use."""
        lines = []
        for node in self.ir.inputs:
            for axis, size in enumerate(node.type.shape):
                name = self.sizes.pop(str(size), None)
                if name is not None:
                    lines.append(f"        {name} = {self.variable(node)}.shape[{axis}]")
        return lines

    def size(self, size: Size) -> str:
        if isinstance(size, int):
            return str(size)
        terms = []
        for monomial, coefficient in size.terms:
            factors = [] if coefficient == 1 and monomial else [str(coefficient)]
            for atom, power in monomial:
                factors += [self.quotient(atom) if isinstance(atom, Quotient) else self.symbol(atom)] * power
            terms.append(" * ".join(factors))
        return " + ".join(terms)

    def quotient(self, atom: Quotient) -> str:
        numerator, denominator = self.size(atom.numerator), self.size(atom.denominator)
        return f"(({numerator}) // ({denominator}))"

    def symbol(self, name: str) -> str:
        if name not in self.sizes:
            self.sizes[name] = self.fresh(name.replace(".", "").lower())
        return self.sizes[name]

    def attribute(self, value: AttrValue) -> str:
        if isinstance(value, Dim):
            return self.size(value)
        if isinstance(value, tuple):
            items = ", ".join(map(self.attribute, value))
            return f"({items},)" if len(value) == 1 else f"({items})"
        if isinstance(value, DType):
            return f"torch.{TORCH_NAMES[value]}"
        if isinstance(value, BlueprintIR):
            inner = _Writer(value)
            inner.functions = self.functions
            return self.functions.hold(f"{value.name}_step", inner.step)
        return f'"{value}"' if isinstance(value, str) else repr(value)


def _shape(node: Node, index: int = 0) -> str:
    type = node.types[index]
    sizes = ", ".join(str(size) for size in type.shape)
    return f"{TORCH_NAMES[type.dtype]} [{sizes}]"


def _new(function: str, node: Node) -> str:
    sizes = ", ".join(map(str, node.type.shape)) or "()"
    dtype = "" if node.type.dtype is DType.F32 else f", dtype=torch.{TORCH_NAMES[node.type.dtype]}"
    return f"torch.{function}({sizes}{dtype})"


def _begins_so(ir: BlueprintIR, layer: Layer, name: str, init: str, gain: float, fan_in: int) -> bool:
    """Whether the layer itself draws a weight from the distribution that the graph names."""
    if "Norm" in layer.made_by.function:
        return init == {"weight": "ones", "bias": "zeros"}.get(name)
    shape = ir.node(f"{layer.scope}.weight").type.shape[1:]
    theirs = math.prod(size for size in shape if isinstance(size, int))
    return init == "fan_in_uniform" and gain == 1.0 and fan_in == theirs
