"""What an FP16 graph computes in FP32 all the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fp32Ops:
    """What stays FP32 inside an FP16 graph.

    Products with weights (``products``) compute in FP16. Every other operator follows what it reads, the wider type
    winning, so a sum with one FP32 term is FP32; only products lead back from FP32 to FP16.

    Attributes:
        products: ONNX operators worth FP16: convolutions and matrix products with weights.
        operators: ONNX operators that compute in FP32 wherever they stand.
        activation_products: whether products of two activations (attention scores and mixtures) stay FP32.
        min_columns: products with fewer result columns (attention pooling, classifier) stay FP32: nothing is gained.
        weights: parts of names of weights whose products stay FP32.
    """

    products: tuple[str, ...]
    operators: tuple[str, ...]
    activation_products: bool
    min_columns: int
    weights: tuple[str, ...] = ()


FP32_OPS = Fp32Ops(
    products=("Conv", "Gemm", "MatMul"),
    operators=(
        "BatchNormalization",  # one that no convolution could take in: variances need FP32's range
        "LayerNormalization",  # sums of squares leave FP16's range
        "LSTM",  # its cell state adds up over all frames
        "Pow",  # squares, of which variances are made
        "Softmax",
    ),
    activation_products=True,
    min_columns=8,
    weights=("subcategory_classifier",),  # logits of both outputs are FP32
)
