"""Names that people know from other libraries lead to what they are called here."""

from __future__ import annotations

import pytest

from esper.ir.operator import OPERATORS
from esper.ir.types import DType
from esper.lang import library, parse_source
from esper.lang.elsewhere import all_meant, argument_meant, element_type_meant, library_names, operator_meant
from esper.lang.evaluate import language_operators
from esper.lang.mistakes import Context


def test_what_is_meant_is_an_operator_and_what_is_written_is_none() -> None:
    operators = language_operators()
    for theirs, meant in all_meant():
        assert not meant.name or meant.name in operators, theirs
        assert theirs not in operators
        assert meant.way_out


def test_no_name_means_two_things() -> None:
    names = [theirs for theirs, _ in all_meant()]
    assert sorted(names) == sorted(set(names))


def test_each_example_is_valid() -> None:
    for _, meant in all_meant():
        around = [surroundings.replace("□", meant.example or "x") for surroundings in Context.VALUE.value]
        assert any(parse_source(text)[1] == [] for text in around), meant.example


def test_the_library_is_known_by_its_files() -> None:
    assert library_names() == tuple(entry.name for entry in library())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("swish", "silu"), ("SiLU", "silu"), ("LayerNorm", "layer_norm"), ("layernorm", "layer_norm")),
        *(("Conv2d", "conv"), ("Conv2D", "conv"), ("Dropout2d", "feature_dropout"), ("Dropout", "dropout")),
        *(("MaxPooling2D", "max_pool"), ("GlobalAveragePooling2D", "global_avg_pool"), ("Dense", "linear")),
        *(("BatchNormalization", "batch_norm"), ("BatchNorm1d", "batch_norm"), ("cat", "concat")),
        *(("UpSampling2D", "interpolate"), ("view", "reshape"), ("split", "chunk"), ("softmx", "softmax")),
        ("mlp_blok", "mlp_block"),
    ],
)
def test_an_operator_is_recognized(written: str, meant: str) -> None:
    assert operator_meant(written, language_operators(), "").startswith(f"did you mean `{meant}`?")


def test_a_blueprint_of_the_library_is_to_be_imported() -> None:
    assert "`import attention`" in operator_meant("attention", language_operators(), "")


def test_a_name_that_resembles_nothing_gets_the_other_way_out() -> None:
    assert operator_meant("zyzzyva", language_operators(), "look") == "look"


@pytest.mark.parametrize(
    ("operator", "written", "meant"),
    [
        *(("softmax", "dim", "axis"), ("mean", "dim", "axes"), ("mean", "keepdim", "keepdims")),
        *(("conv", "filters", "channels"), ("conv", "kernel_size", "kernel"), ("dropout", "rate", "p")),
        *(
            ("linear", "units", "features"),
            ("linear", "use_bias", "bias"),
            ("embedding", "vocab_size", "rows"),
        ),
        *(("layer_norm", "epsilon", "eps"), ("interpolate", "scale_factor", "scale")),
        *(("transpose", "dim0", "axis0"), ("multi_head_attention", "num_heads", "heads")),
    ],
)
def test_an_argument_is_recognized(operator: str, written: str, meant: str) -> None:
    entry = OPERATORS[operator]
    known = [*(slot.name for slot in entry.inputs), *(slot.name for slot in entry.attributes)]
    assert meant in known
    assert argument_meant(written, known) == f"did you mean `{meant}`?"


def test_what_an_operator_reads_from_its_tensor_is_left_out() -> None:
    assert "read from the tensor" in argument_meant("in_features", ["x", "features", "bias"])


@pytest.mark.parametrize(
    ("written", "meant"), [("float32", "f32"), ("half", "f16"), ("int64", "i64"), ("bf61", "bf16")]
)
def test_an_element_type_is_recognized(written: str, meant: str) -> None:
    assert element_type_meant(written, [dtype.value for dtype in DType]) == f"did you mean `{meant}`?"
