"""What stands in the way of a prediction, or of a measurement."""

from esper.errors import EsperError


class UnmeasuredType(EsperError):
    """Operators were measured in float32 alone."""

    code = "E1080"
    message = "`{value}` of `{blueprint}` is {dtype}, and operators were measured in f32"
    help = "predict with --precision f32, or measure the blueprint itself by `esperc bench`"


class ProfileForeign(EsperError):
    """A file that no measurement of operators wrote, or that is damaged."""

    code = "E1081"
    message = "`{path}` is no profile of a device: {reason}"
    help = "choose another file, or measure one by `esperc calibrate`"


class PredictorForeign(EsperError):
    """A file that no fit wrote, or that is damaged."""

    code = "E1082"
    message = "`{path}` holds no predictor: {reason}"
    help = "choose another file, or fit one by `esperc calibrate`"


class NoGpu(EsperError):
    code = "E1083"
    message = "`{blueprint}` was to be timed on a GPU, and torch finds none here"
    help = "time it on the processor by --device cpu"
    exit_code = 3


class KernelsMissing(EsperError):
    """A seed's kernels never took over, so what ran on the GPU were torch's operators."""

    code = "E1084"
    message = "the kernels of `{blueprint}` did not run: {reason}"
    help = "`esperc verify` judges each kernel without a GPU"
