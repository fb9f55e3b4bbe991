# forward: grid (ceil(N / BLOCK_M)), BLOCK_M = 16, STAGES = 2, 4 warps
@triton.jit
def scan_1_gru_step(state, held, row, mask, step, operands):
    (T, gru_add_ptr, gru_scan_1_ptr, gru_scan_2_ptr) = operands
    column_64 = tl.arange(0, 64)[None, :]
    (h,) = state
    (bias_0, weight_part_0, bias_128, weight_part_1, bias_64, weight_part_2) = held
    gates_128 = tl.load(gru_add_ptr + step * 192 + 128 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gates_0 = tl.load(gru_add_ptr + step * 192 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gru_matmul_0 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_0), input_precision="ieee")
    gru_add_0 = bias_0 + gru_matmul_0
    gru_add_2_0 = gates_0 + gru_add_0
    gru_sigmoid_0 = tl.sigmoid(gru_add_2_0)
    gru_matmul_128 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_1), input_precision="ieee")
    gru_add_128 = bias_128 + gru_matmul_128
    gru_mul = gru_sigmoid_0 * gru_add_128
    gru_add_3 = gates_128 + gru_mul
    gru_tanh = tanh(gru_add_3)
    gates_64 = tl.load(gru_add_ptr + step * 192 + 64 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gru_matmul_64 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_2), input_precision="ieee")
    gru_add_64 = bias_64 + gru_matmul_64
    gru_add_2_64 = gates_64 + gru_add_64
    gru_sigmoid_64 = tl.sigmoid(gru_add_2_64)
    gru_sub = h - gru_tanh
    gru_mul_2 = gru_sigmoid_64 * gru_sub
    gru_add_4 = gru_tanh + gru_mul_2
    tl.store(gru_scan_1_ptr + step * 64 + row * (T * 64) + column_64, gru_add_4, mask)
    tl.store(gru_scan_2_ptr + step * 64 + row * (T * 64) + column_64, h, mask)
    return (gru_add_4,)


@triton.jit
def scan_1_gru_start(row, mask, operands):
    (gru_bias_hh_ptr, gru_weight_hh_ptr) = operands
    column_64 = tl.arange(0, 64)[None, :]
    line_64 = tl.arange(0, 64)[:, None]
    h_0 = tl.full([row.shape[0], 64], 0.0, tl.float32)
    bias_0 = tl.load(gru_bias_hh_ptr + column_64).to(tl.float32)
    weight_part_0 = tl.load(gru_weight_hh_ptr + line_64 * 64 + column_64)
    bias_128 = tl.load(gru_bias_hh_ptr + 128 + column_64).to(tl.float32)
    weight_part_1 = tl.load(gru_weight_hh_ptr + 8192 + line_64 * 64 + column_64)
    bias_64 = tl.load(gru_bias_hh_ptr + 64 + column_64).to(tl.float32)
    weight_part_2 = tl.load(gru_weight_hh_ptr + 4096 + line_64 * 64 + column_64)
    return (h_0,), (bias_0, weight_part_0, bias_128, weight_part_1, bias_64, weight_part_2)


@triton.jit
def scan_1_gru_finish(state, row, mask, operands):
    pass


@triton.jit
def scan_1_gru(
    gru_add_ptr,
    gru_bias_hh_ptr,
    gru_weight_hh_ptr,
    gru_scan_1_ptr,
    gru_scan_2_ptr,
    T,
    N,
    BLOCK_M: tl.constexpr,
    STAGES: tl.constexpr,
):
    scan(
        N,
        T,
        (gru_bias_hh_ptr, gru_weight_hh_ptr),
        (T, gru_add_ptr, gru_scan_1_ptr, gru_scan_2_ptr),
        (),
        scan_1_gru_start,
        scan_1_gru_step,
        scan_1_gru_finish,
        False,
        BLOCK_M,
        STAGES,
    )


# backward: grid (ceil(N / BLOCK_M)), BLOCK_M = 16, STAGES = 2, 4 warps
@triton.jit
def scan_2_gru_step(state, held, row, mask, step, operands):
    (
        T, saved_2_ptr, linear_matmul_matmul_ptr, saved_0_ptr, gru_scan_scan_1_ptr, gru_scan_scan_2_ptr
    ) = operands
    column_64 = tl.arange(0, 64)[None, :]
    (d_next_h,) = state
    (bias_128, weight_part_0, bias_64, weight_part_1, bias_0, weight_part_2) = held
    h = tl.load(saved_2_ptr + step * 64 + row * (T * 64) + column_64, mask, 0.0).to(tl.float32)
    gru_matmul_128 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_0), input_precision="ieee")
    gru_add_128 = bias_128 + gru_matmul_128
    d_y = tl.load(linear_matmul_matmul_ptr + step * 64 + row * (T * 64) + column_64, mask, 0.0).to(tl.float32)
    add = d_next_h + d_y
    gates_64 = tl.load(saved_0_ptr + step * 192 + 64 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gru_matmul_64 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_1), input_precision="ieee")
    gru_add_64 = bias_64 + gru_matmul_64
    gru_add_2_64 = gates_64 + gru_add_64
    gru_sigmoid_64 = tl.sigmoid(gru_add_2_64)
    gru_mul_2_mul_2 = gru_sigmoid_64 * add
    gru_sub_add = add - gru_mul_2_mul_2
    gates_128 = tl.load(saved_0_ptr + step * 192 + 128 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gates_0 = tl.load(saved_0_ptr + step * 192 + row * (T * 192) + column_64, mask, 0.0).to(tl.float32)
    gru_matmul_0 = tl.dot(h.to(tl.bfloat16), tl.trans(weight_part_2), input_precision="ieee")
    gru_add_0 = bias_0 + gru_matmul_0
    gru_add_2_0 = gates_0 + gru_add_0
    gru_sigmoid_0 = tl.sigmoid(gru_add_2_0)
    gru_mul = gru_sigmoid_0 * gru_add_128
    gru_add_3 = gates_128 + gru_mul
    gru_tanh = tanh(gru_add_3)
    gru_tanh_tanh_backward = gru_sub_add * (1.0 - gru_tanh * gru_tanh)
    gru_mul_mul = gru_add_128 * gru_tanh_tanh_backward
    gru_sigmoid_sigmoid_backward_0 = gru_mul_mul * gru_sigmoid_0 * (1.0 - gru_sigmoid_0)
    tl.store(
        gru_scan_scan_1_ptr + step * 192 + row * (T * 192) + column_64, gru_sigmoid_sigmoid_backward_0, mask
    )
    gru_sub = h - gru_tanh
    gru_mul_2_mul = gru_sub * add
    gru_sigmoid_sigmoid_backward_64 = gru_mul_2_mul * gru_sigmoid_64 * (1.0 - gru_sigmoid_64)
    tl.store(
        gru_scan_scan_1_ptr + step * 192 + 64 + row * (T * 192) + column_64,
        gru_sigmoid_sigmoid_backward_64,
        mask,
    )
    tl.store(
        gru_scan_scan_1_ptr + step * 192 + 128 + row * (T * 192) + column_64, gru_tanh_tanh_backward, mask
    )
    tl.store(
        gru_scan_scan_2_ptr + step * 192 + row * (T * 192) + column_64, gru_sigmoid_sigmoid_backward_0, mask
    )
    tl.store(
        gru_scan_scan_2_ptr + step * 192 + 64 + row * (T * 192) + column_64,
        gru_sigmoid_sigmoid_backward_64,
        mask,
    )
    gru_mul_mul_2 = gru_sigmoid_0 * gru_tanh_tanh_backward
    tl.store(gru_scan_scan_2_ptr + step * 192 + 128 + row * (T * 192) + column_64, gru_mul_mul_2, mask)
    gru_matmul_matmul = tl.dot(
        gru_sigmoid_sigmoid_backward_0.to(tl.bfloat16), weight_part_2, input_precision="ieee"
    )
    gru_matmul_matmul = tl.dot(
        gru_sigmoid_sigmoid_backward_64.to(tl.bfloat16),
        weight_part_1,
        gru_matmul_matmul,
        input_precision="ieee",
    )
    gru_matmul_matmul = tl.dot(
        gru_mul_mul_2.to(tl.bfloat16), weight_part_0, gru_matmul_matmul, input_precision="ieee"
    )
    gru_matmul_add = gru_mul_2_mul_2 + gru_matmul_matmul
    return (gru_matmul_add,)


@triton.jit
def scan_2_gru_start(row, mask, operands):
    (gru_bias_hh_ptr, gru_weight_hh_ptr) = operands
    column_64 = tl.arange(0, 64)[None, :]
    line_64 = tl.arange(0, 64)[:, None]
    d_next_h_0 = tl.full([row.shape[0], 64], 0.0, tl.float32)
    bias_128 = tl.load(gru_bias_hh_ptr + 128 + column_64).to(tl.float32)
    weight_part_0 = tl.load(gru_weight_hh_ptr + 8192 + line_64 * 64 + column_64)
    bias_64 = tl.load(gru_bias_hh_ptr + 64 + column_64).to(tl.float32)
    weight_part_1 = tl.load(gru_weight_hh_ptr + 4096 + line_64 * 64 + column_64)
    bias_0 = tl.load(gru_bias_hh_ptr + column_64).to(tl.float32)
    weight_part_2 = tl.load(gru_weight_hh_ptr + line_64 * 64 + column_64)
    return (d_next_h_0,), (bias_128, weight_part_0, bias_64, weight_part_1, bias_0, weight_part_2)


@triton.jit
def scan_2_gru_finish(state, row, mask, operands):
    pass


@triton.jit
def scan_2_gru(
    gru_bias_hh_ptr,
    saved_2_ptr,
    gru_weight_hh_ptr,
    linear_matmul_matmul_ptr,
    saved_0_ptr,
    gru_scan_scan_1_ptr,
    gru_scan_scan_2_ptr,
    T,
    N,
    BLOCK_M: tl.constexpr,
    STAGES: tl.constexpr,
):
    scan(
        N,
        T,
        (gru_bias_hh_ptr, gru_weight_hh_ptr),
        (T, saved_2_ptr, linear_matmul_matmul_ptr, saved_0_ptr, gru_scan_scan_1_ptr, gru_scan_scan_2_ptr),
        (),
        scan_2_gru_start,
        scan_2_gru_step,
        scan_2_gru_finish,
        True,
        BLOCK_M,
        STAGES,
    )


