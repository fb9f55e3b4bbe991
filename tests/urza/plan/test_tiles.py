"""Tiles fit their sizes, fill the GPU where they can, and fall back to smaller ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.lang import lower
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import make_programs
from esper.urza.plan import tiles

sizes = st.integers(1, 20_000)


@given(st.integers(1, tiles.ROW_LIMIT))
def test_a_row_fits_its_tile_and_a_thread_holds_few_elements(width: int) -> None:
    tile = tiles.rows_tile(width)
    block_m, block_k = int(tile.constexprs["BLOCK_M"]), int(tile.constexprs["BLOCK_K"])
    assert block_k >= width and block_k < 2 * width
    assert block_m * block_k // (32 * tile.num_warps) <= 16


@given(sizes, sizes, sizes, st.sampled_from([2, 4]))
def test_a_product_s_tile_suits_a_matrix_instruction(rows: int, columns: int, inner: int, size: int) -> None:
    tile = tiles.product_tile(rows, columns, inner, size)
    blocks = [tile.constexprs[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K")]
    assert all(isinstance(block, int) and block >= 16 and block & (block - 1) == 0 for block in blocks)
    assert tile.constexprs["BLOCK_M"] in (64, 128)


@given(sizes, sizes, sizes)
def test_alternatives_are_ever_smaller(rows: int, columns: int, inner: int) -> None:
    tile = tiles.product_tile(rows, columns, inner, 2)
    areas = [
        math.prod(int(blocks[name]) for name in ("BLOCK_M", "BLOCK_N"))
        for blocks in (tile.constexprs, *(other.constexprs for other in tile.alternatives))
    ]
    assert areas == sorted(areas, reverse=True) and len(areas) > 1


STEPS = ("attention_forward", "attention_query_grad", "attention_key_value_grad", "attention_mask_grad")


@given(st.sampled_from(STEPS), st.integers(1, 256), st.sampled_from([2, 4]))
def test_blocks_of_attention_suit_a_matrix_instruction_and_have_alternatives(
    step: str, width: int, element_bytes: int
) -> None:
    tile = tiles.attention_tile(step, width, element_bytes)
    choices = [dict(tile.constexprs), *(dict(other.constexprs) for other in tile.alternatives)]
    blocks = [block for choice in choices for block in choice.values()]
    assert all(isinstance(block, int) and block >= 16 and block & (block - 1) == 0 for block in blocks)
    assert len(tile.alternatives) > 0


@pytest.mark.parametrize(
    "rows, columns, inner, expected",
    [(64, 64, 100_000, 32), (1024, 256, 32, 1), (512, 128, 100_000, 8), (4096, 4096, 100_000, 1)],
)
def test_long_inner_dimensions_of_small_products_are_split(
    rows: int, columns: int, inner: int, expected: int
) -> None:
    assert tiles.splits(rows, columns, inner) == expected


def test_sums_over_channels_spill_nothing(tmp_path: Path) -> None:
    kernels = make_programs(lower("mbconv_block", precision="bf16")).kernels
    largest = [one for one in kernels if "import channels" in one.source and one.source.count("tl.load") > 5]
    built = build_kernels(largest, ["sm_80"], cache=KernelCache(tmp_path), jobs=2).kernels
    assert len(built) >= 2 and [one.resources.spill_bytes for one in built] == [0] * len(built)
