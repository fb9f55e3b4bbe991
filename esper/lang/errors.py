"""Everything that can be wrong with a blueprint's source or with the values given to it.

A class whose code starts with W is a warning: it is reported and never raised. `suggestion` details hold
the whole way out, or nothing.
"""

from __future__ import annotations

from esper.errors import EsperError


class UnexpectedToken(EsperError):
    code = "E0101"
    message = "unexpected {found}, expected {expected}"
    help = "{way_out}"


class IllegalCharacter(EsperError):
    code = "E0102"
    message = "{character} has no meaning here"
    help = "{way_out}"


class UnclosedText(EsperError):
    code = "E0103"
    message = "text that is not closed on its line"
    help = 'end it with `"`'


class LineContinues(EsperError):
    code = "E0104"
    message = "a line that starts with `{token}` would continue the statement before it"
    help = "put `{token}` at the end of the line above to go on, or start a statement with `name =`"


class ReservedWord(EsperError):
    code = "E0105"
    message = "`{word}` is a reserved word"
    help = "{way_out}"


class NestingTooDeep(EsperError):
    code = "E0106"
    message = "nested deeper than {limit}"
    help = "bind inner parts to names with `let` or `name =`"


class UnclosedBracket(EsperError):
    code = "E0107"
    message = "`{bracket}` is never closed: found {found}"
    help = "add `{closing}`"


class StepIsNoCall(EsperError):
    code = "E0108"
    message = "a step of a pipeline is a call"
    help = "write `{name}()`"


class NumberTooLarge(EsperError):
    code = "E0109"
    message = "the number {text} is out of range"
    help = "integers go to 2**63 - 1, and floating-point numbers are finite"


class FileMissing(EsperError):
    code = "E0110"
    message = "there is no file `{path}`"
    help = "{suggestion}"


class FileIsDirectory(EsperError):
    code = "E0111"
    message = "`{path}` is a directory, expected a blueprint file"
    help = "name a file in it, for example {path}/*.esp"


class NotUtf8(EsperError):
    code = "E0112"
    message = "{reason}"
    help = "save the file as UTF-8"


class BinaryFile(EsperError):
    code = "E0113"
    message = "this is a binary file, expected the source of a blueprint"


class EmptyFile(EsperError):
    code = "E0114"
    message = "there is no blueprint in this file"
    help = "a blueprint reads `blueprint name(width: dim = 64) {{ input x: f32[N, width] output x }}`"


class FileTooLarge(EsperError):
    code = "E0115"
    message = "the file is larger than {limit} bytes"
    help = "spread its blueprints over several files"


class FileUnreadable(EsperError):
    code = "E0116"
    message = "`{path}` cannot be read: {reason}"


class UnknownEscape(EsperError):
    code = "E0117"
    message = "`\\{character}` is no escape"
    help = 'texts know `\\"`, `\\\\` and `\\n`'


class TooManyErrors(EsperError):
    code = "E0118"
    message = "more than {limit} errors; the rest are not shown"


class NoMeaning(EsperError):
    code = "E0119"
    message = "`{found}` has no meaning here"
    help = "{way_out}"


class UnknownOperator(EsperError):
    code = "E0201"
    message = "unknown operator `{name}`"
    help = "{suggestion}"


class UnknownName(EsperError):
    code = "E0202"
    message = "`{name}` is not bound here"
    help = "{suggestion}"


class UnknownArgument(EsperError):
    code = "E0203"
    message = "`{operator}` has no argument `{name}`"
    help = "{suggestion}"


class AlreadyBound(EsperError):
    code = "E0204"
    message = "`{name}` is {what} and is bound once"
    help = "choose another name"


class DuplicateBlueprint(EsperError):
    code = "E0205"
    message = "the file has two blueprints called `{name}`"
    help = "rename one"


class DuplicateArgument(EsperError):
    code = "E0206"
    message = "the argument `{name}` of `{operator}` is given twice"
    help = "leave one out"


class UnknownKind(EsperError):
    code = "E0207"
    message = "`{name}` is no kind of parameter, expected dim, int, float, bool, op or dtype"
    help = "{suggestion}"


class UnknownElementType(EsperError):
    code = "E0208"
    message = "`{name}` is no element type, expected one of {expected}"
    help = "{suggestion}"


class UnknownBlueprint(EsperError):
    code = "E0209"
    message = "there is no blueprint `{name}` in {where}"
    help = "{suggestion}"


class NotAnOperator(EsperError):
    code = "E0210"
    message = "`{name}` is {what}, not an operator"
    help = "{suggestion}"


class DuplicateOutput(EsperError):
    code = "E0211"
    message = "two outputs are called `{name}`"
    help = "name one of them: `output other = …`"


class NoOutput(EsperError):
    code = "E0212"
    message = "blueprint `{name}` has no output"
    help = "end it with `output …`"


class NoInput(EsperError):
    code = "E0213"
    message = "blueprint `{name}` has no input"
    help = "start it with `input x: f32[N, width]`"


class SeveralBlueprints(EsperError):
    code = "E0214"
    message = "{where} has several blueprints: {names}"
    help = "choose one with --blueprint NAME"


class ImportEscapes(EsperError):
    code = "E0215"
    message = "{reason}"
    help = "import what lies beside the file or below it, or a library blueprint by name: import norm"


class ImportCycle(EsperError):
    code = "E0216"
    message = "these files import one another: {chain}"
    help = "move what both need into a third file"


class ImportBroken(EsperError):
    code = "E0217"
    message = "`{file}` cannot be imported: {reason}"
    help = "{advice}"


class ImportClashes(EsperError):
    code = "E0218"
    message = "`{file}` has a blueprint `{name}`, and so has something else here"
    help = "rename one of them"


class ImportsTooDeep(EsperError):
    code = "E0219"
    message = "a chain of more than {limit} imports"
    help = "import the file at its end directly"


class RecursiveBlueprint(EsperError):
    code = "E0220"
    message = "blueprint `{name}` calls itself: {chain}"
    help = "a graph is finite; use `repeat` for several of the same"


class CallsTooDeep(EsperError):
    code = "E0221"
    message = "calls of blueprints nest deeper than {limit}"


class DuplicateBranch(EsperError):
    code = "E0222"
    message = "two branches of `choice {name}` are called `{branch}`"
    help = "rename one: `--set {name}={branch}` would choose between them"


class ExpectedTensor(EsperError):
    code = "E0320"
    message = "{where} is {found}, expected a tensor"
    help = "{suggestion}"


class ExpectedStatic(EsperError):
    code = "E0321"
    message = "{where} is a tensor, expected {expected}"
    help = "tensors are bound with `name = …`, static values with `let name = …`"


class WrongArgumentKind(EsperError):
    code = "E0322"
    message = "argument `{name}` of `{operator}` is {found}, expected {expected}"
    help = "{suggestion}"


class MissingArgument(EsperError):
    code = "E0323"
    message = "`{operator}` needs the argument `{name}`: {doc}"


class TooManyArguments(EsperError):
    code = "E0324"
    message = "`{operator}` takes {expected}, found one more"


class BadShape(EsperError):
    code = "E0325"
    message = "{reason}"
    help = "{suggestion}"


class SeveralSpreads(EsperError):
    code = "E0326"
    message = "a shape has one `...`, found a second"
    help = "give the other axes names of their own"


class OperandKinds(EsperError):
    code = "E0327"
    message = "`{operator}` does not take {left} and {right}"
    help = "{suggestion}"


class PowerOfTensor(EsperError):
    code = "E0328"
    message = "a tensor to the power of {exponent}"
    help = "`**` takes 1 to 16, -1, 0.5 and -0.5; `pow(x, y)` takes any exponent"


class DoesNotFit(EsperError):
    code = "E0329"
    message = "`{blueprint}` does not fit a tensor {found}: {reason}"


class OperandKind(EsperError):
    code = "E0330"
    message = "`{operator}` does not take {operand}"
    help = "{suggestion}"


class ArgumentShape(EsperError):
    code = "E0331"
    message = "`{name}` of `{blueprint}` is {found}, expected {expected}"
    help = "{suggestion}"


class TooFewResults(EsperError):
    code = "E0332"
    message = "{count} names for {what}"
    help = "{suggestion}"


class RequirementFailed(EsperError):
    code = "E0401"
    message = "{reason}"
    help = "the condition reads {values}"


class OutOfDomain(EsperError):
    code = "E0402"
    message = "`{name}` = {value} is not one of {domain}"
    help = "{suggestion}"


class MissingValue(EsperError):
    code = "E0403"
    message = "the parameter `{name}` has no value"
    help = "give it a default, or a value: --set {name}=…"


class UnknownParameter(EsperError):
    code = "E0404"
    message = "blueprint `{blueprint}` has no parameter `{name}`"
    help = "{suggestion}"


class WrongParameterKind(EsperError):
    code = "E0405"
    message = "`{name}` is {found}, expected {expected}"
    help = "{suggestion}"


class DivisionByZero(EsperError):
    code = "E0406"
    message = "division by zero"
    help = "a `require` can say what the divisor must be"


class ValueOverflow(EsperError):
    code = "E0407"
    message = "the value of `{operator}` is out of range"
    help = "static integers go to 2**63 - 1, and floating-point numbers are finite"


class Undecided(EsperError):
    code = "E0408"
    message = "{what} depends on {sizes}, known only when the blueprint runs"
    help = "state it over parameters"


class BadSetting(EsperError):
    code = "E0409"
    message = "`{text}` is no setting"
    help = "write name=value, for example {example}"


class BadSize(EsperError):
    code = "E0410"
    message = "`{text}` gives no size: {reason}"
    help = "write NAME=V, for example N=64, or S=28,28 for `...S`"


class UnknownSize(EsperError):
    code = "E0411"
    message = "blueprint `{blueprint}` has no size `{name}`"
    help = "{suggestion}"


class UnknownPrecision(EsperError):
    code = "E0412"
    message = "`{name}` is no precision, expected f32, bf16 or f16"


class DimNotPositive(EsperError):
    code = "E0413"
    message = "`{name}` is {value}, and a dim is at least 1"


class BadCount(EsperError):
    code = "E0414"
    message = "`repeat` takes {found}, expected an integer from 0 to {limit}"


class TooManyStatements(EsperError):
    code = "E0415"
    message = "elaboration takes more than {limit} statements"
    help = "shorten a `repeat`, or call fewer blueprints"


class BranchesDiffer(EsperError):
    code = "E0416"
    message = "`choice {name}` has the branches {found} here and {expected} before"
    help = "give both the same branches, or choose another name"


class UnknownQuantity(EsperError):
    code = "E0417"
    message = "`{name}` is nothing that a constraint bounds"
    help = "{suggestion}"


class BadComparison(EsperError):
    code = "E0421"
    message = "a constraint does not compare with `{comparison}`"
    help = "it bounds a quantity: <=, <, >= or >"


class BadConstraint(EsperError):
    code = "E0423"
    message = "{reason}"
    help = "{way_out}"


class SeveralPrecisions(EsperError):
    code = "E0418"
    message = "a blueprint states its precision once, before everything else"
    help = "the inputs of one blueprint may still have different dtypes"


class InputInBlock(EsperError):
    code = "E0419"
    message = "the input `{name}` stands in a block"
    help = "inputs are the blueprint's, whatever is repeated or chosen: declare it above"


class BadRange(EsperError):
    code = "E0420"
    message = "{reason}"
    help = "{way_out}"


class DuplicateValue(EsperError):
    code = "E0422"
    message = "the domain of `{name}` has {value} twice"
    help = "leave one out: each value is there to be chosen once"


class StrayDocumentation(EsperError):
    code = "W0101"
    message = "this documentation stands before neither a blueprint nor a parameter"
    help = "move it, or make it a comment with a single `#`"


class TooManyWarnings(EsperError):
    code = "W0102"
    message = "more than {limit} warnings; the rest are not shown"


class Unused(EsperError):
    code = "W0201"
    message = "{what} `{name}` is never used"
    help = "{suggestion}"


class SizeLikeParameter(EsperError):
    code = "W0202"
    message = "`{name}` is a fresh size symbol"
    help = "did you mean the parameter `{parameter}`?"


class TakenAsEqual(EsperError):
    """Two sizes with names of their own meet where one is asked for; each run compares them."""

    code = "W0301"
    message = "{where}: {one} and {other} must be equal, which only a run can tell"
    help = "give both one name if they always are, or say so with `ensure_shape`"
