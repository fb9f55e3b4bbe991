"""What can be wrong with a slot, a seed in it, or the loop around it."""

from esper.errors import EsperError


class UnknownSlot(EsperError):
    code = "E0820"
    message = "no {kind} is called or matched by `{name}`"
    help = "{suggestion}"


class AlreadyAttached(EsperError):
    code = "E0821"
    message = "the model has slots already: {slots}"
    help = "name every slot in one call of attach, or detach first"


class NotAttached(EsperError):
    code = "E0822"
    message = "the model has no slots"
    help = "call attach(model, slots=..., example=...) first"


class CompiledHost(EsperError):
    code = "E0823"
    message = "`{name}` is compiled, and torch.compile ignores hooks that are added later"
    help = "attach to the plain module, then compile it"


class SlotNeverRuns(EsperError):
    code = "E0824"
    message = "the module `{slot}` did not run on the example"
    help = "choose a module whose forward is called; containers such as ModuleList have none"


class UnsuitableOutput(EsperError):
    code = "E0825"
    message = "the output of `{slot}` is {found}, expected {expected}"
    help = "choose another module, or select the tensor with output="


class SeedDoesNotFit(EsperError):
    code = "E0826"
    message = "`{blueprint}` does not fit the slot `{slot}`, whose tensor is {tensor}: {reason}"
    help = "give the blueprint other parameters, or choose a slot of another shape"


class GateRefused(EsperError):
    code = "E0827"
    message = "gate {level} keeps `{slot}` in {stage}: {failures}"
    help = "go on training; the gates' parameters are documented in GateParameters"


class LiveSeeds(EsperError):
    code = "E0828"
    message = "the host depends on the seeds of {slots}"
    help = "{way_out}"


class UnsupportedOptimizer(EsperError):
    code = "E0829"
    message = (
        "{optimizer} is not a known elementwise optimizer, so a seed beside the host could change its steps"
    )
    help = "use one of {supported}"


class LossNotFinite(EsperError):
    code = "E0830"
    message = "the loss is {loss} at step {step}, and no seed in place can be the cause"
    help = "lower the learning rate, clip gradients, or look for bad values in the batch"


class MalformedEvaluation(EsperError):
    code = "E0831"
    message = "evaluate returned {found}, expected one loss per held-out example: a float tensor [examples]"
    help = "use reduction='none' and concatenate the batches"


class UnknownChoice(EsperError):
    code = "E0832"
    message = "unknown {what} `{name}`"
    help = "choose one of {known}"


class NothingToAdvance(EsperError):
    code = "E0833"
    message = "the slot `{slot}` is {stage}, from which no seed advances"
    help = "{way_out}"


class UnusableOptimizer(EsperError):
    code = "E0834"
    message = "the optimizer {reason}"
    help = "wrap the host's: GrowthOptimizer(AdamW(model.parameters()))"


class ExampleFails(EsperError):
    code = "E0835"
    message = "the model does not run on the example: {reason}"
    help = "give one batch as the model takes it: a tensor, a tuple of arguments, or a mapping of keywords"


class ParametersMissing(EsperError):
    code = "E0837"
    message = "{optimizer} is given without parameters"
    help = "GrowthOptimizer({optimizer}(model.parameters()))"


class BadPattern(EsperError):
    code = "E0838"
    message = "`{pattern}` is neither a module's name nor a regular expression: {reason}"
    help = "its modules are {modules}"


class NoSlotNamed(EsperError):
    code = "E0836"
    message = "no slot is named"
    help = 'name modules of the model, as in slots="layer2" or slots=r"layer[23]"'


class MalformedTopology(EsperError):
    code = "E0840"
    message = "the record of slots and seeds cannot be read: {reason}"
    help = "write it again with save_seeds or save_checkpoint"


class AnotherHost(EsperError):
    """A file belongs to one host: the seeds in it have learned to work with that one's weights."""

    code = "E0841"
    message = "the seeds grew in another host: this one {differences}"
    help = "build the model as it was when the file was written"


class SeedWithoutGraph(EsperError):
    """Files hold graphs, never code, so a module of one's own cannot be written."""

    code = "E0842"
    message = "the seed in `{slot}` is a {kind} that was planted, and only a blueprint's seed can be written"
    help = "describe it as a blueprint, and germinate that"


class SlotTaken(EsperError):
    code = "E0843"
    message = "the slot `{slot}` is {stage}, and a seed can be put back only into a DORMANT one"
    help = "load into a model whose slots are empty, or that has none yet"


class WeightsDiffer(EsperError):
    code = "E0844"
    message = "the weights are not those of the seeds: the file {differences}"
    help = "write the file again with save_seeds or save_checkpoint"


class OptimizerDiffers(EsperError):
    code = "E0850"
    message = "the state is another optimizer's: {difference}"
    help = "make the optimizer as it was made when the state was written, and restore the topology before"


class ActionOutOfStage(EsperError):
    code = "E0860"
    message = "{action} is for a seed in {valid}, and `{slot}` is {stage}"
    help = "look at the slot's stage first: slots(model)[...].stage"


class StillEmbargoed(EsperError):
    code = "E0861"
    message = "the slot `{slot}` is EMBARGOED until growth step {until}, and this is growth step {epoch}"
    help = "go on training: growth.step() opens it in time; GovernorParameters.embargo says for how long"


class LossExploded(EsperError):
    code = "E0862"
    message = (
        "the loss is {loss} at step {step}, far above its recent median {median} for {count} steps in a row "
        "and above where the run began, and no seed in place can be the cause"
    )
    help = "lower the learning rate, clip gradients, or look for bad values in the batches"


class CheckpointUnreadable(EsperError):
    code = "E0851"
    message = "{path} is no whole checkpoint: {reason}"
    help = (
        "take an older one, or begin again; a checkpoint is written whole or not at all, so look at the disk"
    )


class CheckpointTooNew(EsperError):
    code = "E0852"
    message = "{path} has the schema {found}, and this Esper reads {known}"
    help = "load it with the Esper that wrote it, {esper}, or a later one"


class CannotCheckpoint(EsperError):
    code = "E0853"
    message = "`{name}` is {found}, which no checkpoint can hold"
    help = "a state is made of tensors, numbers, texts, lists, tuples, sets and dicts of these"


class CheckpointContents(EsperError):
    code = "E0854"
    message = "{path} holds the state of {held}, and {given} given"
    help = "pass the objects that were saved, by the same names; name=None leaves one out"


class FileOfOthers(EsperError):
    """A file has the name of one that is about to be written, and somebody else made it."""

    code = "E0855"
    message = "{path} is no file of an export, and this one would write over it"
    help = "give another folder, or move the file away"


class SeedsUnreadable(EsperError):
    code = "E0880"
    message = "{path} is no whole file of seeds: {reason}"
    help = "write it again with save_seeds"


class SlotsShareTensor(EsperError):
    """A container returns what its last module returned: two seeds would act on it, one after the other."""

    code = "E0845"
    message = "the slots `{first}` and `{second}` act on one tensor"
    help = "name one of them"


class WrappedHost(EsperError):
    code = "E0846"
    message = "{name} is a {kind}, and slots belong into the module that it wraps"
    help = "attach to the module inside, `{inner}`, then wrap it"


class ShardedHost(EsperError):
    """No rank holds a whole parameter: seeds, snapshots and controls would be of the parts alone."""

    code = "E0882"
    message = "{name} is a {kind}, whose parameters are sharded over several processes"
    help = "use DistributedDataParallel, where each process holds the whole model"


class ReplicatedHost(EsperError):
    """Replicas run in threads and share the slot, whose one seed cannot be on several devices."""

    code = "E0881"
    message = "a {kind} with a seed runs in a replica that DataParallel made"
    help = "use DistributedDataParallel, with a process for each GPU"


class UninitializedHost(EsperError):
    code = "E0847"
    message = "{name} is a {kind} whose weights are not made yet"
    help = "run the model once on a batch, then attach"


class QuantizedHost(EsperError):
    code = "E0848"
    message = "{name} is a {kind}, and no gradient comes through quantized modules"
    help = "grow the float model, and quantize what export returns"


class ScriptedHost(EsperError):
    code = "E0849"
    message = "{name} is a {kind}, whose modules run without hooks"
    help = "attach to the module that it was made from, and script what export returns"


class NoExample(EsperError):
    code = "E0871"
    message = "`{module}` has no example_input_array, and GrowthCallback got no example"
    help = "give GrowthCallback(example=...) one batch of inputs"


class SeveralOptimizers(EsperError):
    code = "E0872"
    message = "`{module}` has {count} optimizers, expected one, which trains the seeds too"
    help = "return one optimizer from configure_optimizers, with a group for each part"
