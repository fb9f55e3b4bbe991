"""What can go wrong between a plan and a kernel that runs: E07xx."""

from __future__ import annotations

from esper.errors import EsperError


class MalformedExtent(EsperError):
    """A grid or buffer size that cannot be evaluated."""

    code = "E0720"
    message = "the size `{extent}` cannot be computed: {reason}"


class UnknownTarget(EsperError):
    """A GPU that kernels cannot be built for."""

    code = "E0721"
    message = "unknown target `{target}`"
    help = "known targets: {known}"


class MissingCompiler(EsperError):
    """Triton or the assembler that comes with it is not there."""

    code = "E0722"
    message = "`{tool}` is missing, and building kernels needs it: {reason}"
    help = "install triton >= 3.6, < 3.8 (Linux only); it brings ptxas"
    exit_code = 3


class KernelBuildFailed(EsperError):
    """Triton or ptxas refused a kernel, or its build process died."""

    code = "E0723"
    message = "kernel `{kernel}` does not build for {target}: {reason}"
    help = "this is a fault of the compiler, not of the blueprint; please report it with the blueprint"


class InterpreterFailed(EsperError):
    """Triton's interpreter raised an error, or its process died."""

    code = "E0724"
    message = "kernel `{kernel}` does not run in the interpreter: {reason}"


class CacheUnusable(EsperError):
    """The kernel cache's folder cannot be used."""

    code = "E0725"
    message = "the kernel cache `{folder}` cannot be used: {reason}"
    help = "set ESPER_CACHE_DIR to a folder of your own"


class ArtifactUnreadable(EsperError):
    """A file that is no artifact, or not one this version reads."""

    code = "E0730"
    message = "`{path}` cannot be read as a compiled seed: {reason}"
    help = "compile the blueprint again: esperc compile FILE -o {path}"


class ArtifactTampered(EsperError):
    """An artifact whose contents differ from what its manifest says."""

    code = "E0731"
    message = "`{path}` is damaged or was changed: {reason}"
    help = "nothing of it was used; compile the blueprint again: esperc compile FILE -o {path}"


class MissingDriver(EsperError):
    """No NVIDIA driver on this machine."""

    code = "E0740"
    message = "`{library}` is missing, and launching kernels needs it: {reason}"
    help = "install the NVIDIA driver, or use the torch tier, which runs everywhere"
    exit_code = 3


class DriverCallFailed(EsperError):
    """The NVIDIA driver refused to load or to launch a kernel."""

    code = "E0741"
    message = "the NVIDIA driver refused {call}: {reason} (error {number})"
    help = "the torch tier runs without kernels; if the seed was built for another GPU, compile it again"


class CannotLaunch(EsperError):
    """A kernel that the launcher cannot call, or a value that its parameter cannot hold."""

    code = "E0742"
    message = "kernel `{kernel}` cannot be launched: {reason}"
    help = "this is a fault of the compiler, not of the blueprint; please report it with the blueprint"


class DeviceMissing(EsperError):
    """Tuning measures kernels, on a GPU that is not here."""

    code = "E0743"
    message = "tuning needs a GPU that kernels are built for: {reason}"
    help = "compile with --tune none: a model of the GPU picks the configuration"
    exit_code = 3


class UnsupportedElementType(EsperError):
    """Kernels compute in float32 at most."""

    code = "E0701"
    message = "node `{node}` is {dtype}, which no kernel computes"
    help = "compile in f32, bf16 or f16; the torch tier runs float64"


class TensorTooLarge(EsperError):
    """A tensor that kernels cannot index."""

    code = "E0702"
    message = "`{name}` has {elements} elements; kernels count to 2**31 - 1"
    help = "use a smaller batch"


class TensorUnfitForKernels(EsperError):
    """A tensor of another element type, or in another place, than kernels were built for."""

    code = "E0707"
    message = "`{name}` is {found}, and the kernels take {expected}"
    help = "compile the blueprint in that precision, or move the module and its inputs to one device"


class NameTaken(EsperError):
    """A parameter whose name the module needs itself."""

    code = "E0703"
    message = "blueprint `{blueprint}`: the parameter `{name}` bears a name that torch modules use"
    help = "rename the node in the IR"


class SeedsDoNotPickle(EsperError):
    """Pickle would store code paths; `.seed` files hold data alone."""

    code = "E0704"
    message = "the seed of `{blueprint}` cannot be pickled"
    help = (
        "save seed.ir as a file, seed.save(PATH.seed), and seed.state_dict() beside it; esper.load reads it"
    )


class WrongInputs(EsperError):
    """A seed called with too few or too many tensors."""

    code = "E0706"
    message = "the seed of `{blueprint}` was given {found} tensors, and takes {expected}"


class NoSecondGradient(EsperError):
    """A gradient of a gradient through kernels, whose backward pass has no gradient of its own."""

    code = "E0708"
    message = "the seed of `{blueprint}` runs on kernels, which give no gradients of gradients"
    help = 'run it on the torch tier: esper.compile(..., tier="torch")'


class RecomputedElsewhere(EsperError):
    """A seed called in a backward pass, by something that is not torch's checkpointing."""

    code = "E0709"
    message = "the seed of `{blueprint}` is computed again in a backward pass, and drew its dropout elsewhere"
    help = "use torch.utils.checkpoint, or a blueprint without random operators"


class NotWritten(EsperError):
    """An operator that a written module cannot hold."""

    code = "E0710"
    message = "`{name}` cannot be written as a module of its own"
    help = "save the blueprint as a seed instead: esperc compile FILE -o OUT.seed"


class OpenWeight(EsperError):
    """A weight whose size is that of an input: a seed cannot be made before the input is known."""

    code = "E0711"
    message = "the weight `{weight}` of `{blueprint}` is {type}, and `{size}` has no number"
    help = "make the size a parameter of the blueprint: `{size}: dim = 64`"
