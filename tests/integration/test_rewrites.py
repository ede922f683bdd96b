from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tests.conftest import require_package

for module, extra in (
    ("executorch", "android"),
    ("torchao", "android"),
    ("litert_torch", "litert"),
    ("ai_edge_quantizer", "litert"),
    ("tflite_micro", "micro"),
):
    require_package(module, extra)

# Before anything else of ExecuTorch: it keeps the warnings of its import to itself.
from tests.integration import executorch_programs as android
from tests.integration.litert_programs import FLOAT_FIRST, HANDHELD_FIRST, MICRO_FIRST

# The converters and PyTorch warn of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

from packager import program, runtimes
from packager.artifacts import Converted, OperatorCount, Precision, Runtime
from packager.converters import Conversion, executorch, litert, rewrites
from packager.converters.lint import RULES, lint
from packager.errors import ConfigError, ConversionError, PackagerError, UnsupportedOperatorError
from packager.recipe import Rewrite
from packager.stages.convert import _converter_errors
from tests.networks import INPUT_SHAPES, Attention, Residual, Signal, seeded

FOLD, ATTEND, GELU = Rewrite.FOLD_BATCHNORM1D, Rewrite.EXPLICIT_ATTENTION, Rewrite.GELU_TO_SIGMOID
MICRO_FLOAT = replace(FLOAT_FIRST, runtime=Runtime.TFLITE_MICRO)
LEGACY_FLOAT = replace(FLOAT_FIRST, runtime=Runtime.TFLITE_LEGACY)
LEGACY_FIRST = replace(HANDHELD_FIRST, runtime=Runtime.TFLITE_LEGACY)
TARGETS = (
    android.FLOAT32, FLOAT_FIRST, HANDHELD_FIRST, MICRO_FLOAT, MICRO_FIRST, LEGACY_FLOAT, LEGACY_FIRST,
)  # fmt: skip
FUSED = "aten.scaled_dot_product_attention.default"
ALLOWED = torch.ones(6, 6, dtype=torch.bool).tril()


class Attend(nn.Module):
    """Attention of a projected input to itself; input (n, 2, 6, 8)."""

    def __init__(self, attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.attention = attention
        self.register_buffer("allowed", ALLOWED)

    def forward(self, x: Tensor) -> Tensor:
        mask: Tensor = self.allowed  # type: ignore[assignment]  # a buffer is a tensor
        return self.attention(3.0 * self.query(x), 3.0 * self.key(x), x, mask)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: object) -> Tensor:
    attended: Tensor = functional.scaled_dot_product_attention(q, k, v, mask, **options)  # type: ignore[arg-type]
    return attended


def loaded(module: nn.Module, shape: tuple[int, ...], folder: Path) -> fx.GraphModule:
    """Return the network as a build hands it on: written to a file, and read."""
    return program.load(program.save(module.eval(), folder / "network.pt2", shape))


def difference(one: nn.Module, two: nn.Module, shape: tuple[int, ...]) -> float:
    batch = torch.from_numpy(android.samples(shape, 8, seed=5))
    with torch.no_grad():
        return float((one(batch) - two(batch)).abs().max())


def targets(network: fx.GraphModule) -> set[str]:
    return {str(node.target) for node in network.graph.nodes}


def rewritten(network: nn.Module, *wanted: Rewrite) -> fx.GraphModule:
    changed = rewrites.apply(network, wanted)
    assert isinstance(changed, fx.GraphModule)
    return changed


# What holds for every rewrite


@pytest.mark.parametrize("rewrite", list(Rewrite))
def test_rewrite_that_changes_nothing_is_refused(rewrite: Rewrite) -> None:
    with pytest.raises(ConfigError) as caught:
        rewrites.apply(android.network(Residual), (rewrite,))
    assert str(caught.value) == (
        f"convert.rewrites: {rewrite.value!r} changes nothing in this model; remove it."
    )


def test_rewrite_that_is_listed_twice_changes_nothing_the_second_time() -> None:
    with pytest.raises(ConfigError, match="'explicit-attention' changes nothing"):
        rewrites.apply(android.network(Attention), (ATTEND, GELU, ATTEND))


def test_no_rewrite_returns_the_network_itself() -> None:
    network = android.network(Residual)
    assert rewrites.apply(network, ()) is network


@pytest.mark.parametrize(("kind", "rewrite"), [(Signal, FOLD), (Attention, ATTEND)])
def test_network_itself_is_left_as_it_was(kind: type[nn.Module], rewrite: Rewrite) -> None:
    network = android.network(kind)
    code, weights = network.code, {k: v.clone() for k, v in network.state_dict().items()}
    rewrites.apply(network, (rewrite,))
    assert network.code == code
    assert network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


# GELU


def test_gelu_and_its_stand_in_differ_by_what_the_advice_says() -> None:
    x = torch.linspace(-8.0, 8.0, 100_001).reshape(1, -1)
    network = fx.symbolic_trace(nn.Sequential(nn.GELU()))
    error = (rewritten(network, GELU)(x) - functional.gelu(x)).abs().max()
    assert 0.0203 < error < 0.0204


@pytest.mark.parametrize(
    "gelu",
    [nn.GELU(), nn.GELU("tanh"), functional.gelu],
    ids=["module", "tanh", "function"],
)
def test_gelu_is_replaced_however_it_is_spelled(
    tmp_path: Path, gelu: Callable[[Tensor], Tensor]
) -> None:
    x = torch.linspace(-3.0, 3.0, 64).reshape(1, 64)
    expected = x * torch.sigmoid(1.702 * x)
    for network in (Using(Example(gelu)), loaded(Using(Example(gelu)), (64,), tmp_path)):
        # One rounding in another place.
        assert torch.allclose(rewritten(network, GELU)(x), expected, atol=1e-6)


def convert_for(
    out: Path, network: nn.Module, shape: tuple[int, ...], settings: Conversion
) -> Converted:
    batch = android.samples(shape, 64, seed=1)
    torch.set_num_threads(1)
    if settings.runtime is Runtime.EXECUTORCH:
        return executorch.convert(out, network.eval(), batch, settings)
    return litert.convert(out, network.eval(), batch, settings)


def test_microcontroller_takes_the_network_after_gelu_is_replaced(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = loaded(nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3)), (16,), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="GELU"):
        convert_for(tmp_path, network, (16,), MICRO_FIRST)
    changed = rewritten(network, GELU)
    converted = convert_for(tmp_path, changed, (16,), MICRO_FIRST)
    batch = android.samples((16,), 32, seed=2)
    answers = runtimes.predict(converted, batch)
    # Int8 alone: 39 dB was measured with twice the samples.
    assert android.sqnr_db(answers, android.torch_answers(changed, batch)) > 30
    assert converted.fallbacks == ()


# Attention


@pytest.mark.parametrize(
    "attention",
    [
        lambda q, k, v, _: sdpa(q, k, v),
        lambda q, k, v, _: sdpa(q, k, v, is_causal=True),
        lambda q, k, v, _: sdpa(q, k[..., :4, :], v[..., :4, :], is_causal=True),
        sdpa,
        lambda q, k, v, allowed: sdpa(
            q, k, v, torch.zeros(6, 6).masked_fill(~allowed, -torch.inf)
        ),
        lambda q, k, v, allowed: sdpa(q, k, v, allowed.float()),
        lambda q, k, v, _: sdpa(q, k, v, scale=0.1),
        lambda q, k, v, _: sdpa(q, k, v, scale=0.0),
        lambda q, k, v, _: sdpa(q, k, v[..., :5]),
        lambda q, k, v, _: sdpa(q[:, 0], k[:, 0], v[:, 0], is_causal=True),
        lambda q, k, v, _: sdpa(q[:, None], k[:, None], v[:, None]),
    ],
    ids=[
        "plain", "causal", "causal, fewer keys", "mask", "float mask with infinity", "float mask",
        "scale", "scale of zero", "narrower values", "three axes", "five axes",
    ],
)  # fmt: skip
def test_written_out_attention_gives_the_same(
    tmp_path: Path, attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    network = loaded(Attend(attention), (2, 6, 8), tmp_path)
    changed = rewritten(network, ATTEND)
    assert FUSED in targets(network)
    assert FUSED not in targets(changed)
    # Sums in another order, of values of about 3: 5e-7 was measured.
    assert difference(changed, network, (2, 6, 8)) < 3e-6


@pytest.mark.parametrize(
    ("attention", "what"),
    [
        (lambda q, k, v, _: sdpa(q, k, v, dropout_p=0.1), "dropout"),
        (lambda q, k, v, _: sdpa(q, k[:, :1], v[:, :1], enable_gqa=True),
         "grouped queries and different heads for query, key and value"),
        (lambda q, k, v, _: sdpa(q, k[:, :1], v[:, :1]),
         "different heads for query, key and value"),
    ],
    ids=["dropout", "grouped", "broadcast"],
)  # fmt: skip
def test_attention_that_cannot_be_written_out_is_refused(
    tmp_path: Path, attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], what: str
) -> None:
    network = loaded(Attend(attention), (2, 6, 8), tmp_path)
    with pytest.raises(ConversionError) as caught:
        rewrites.apply(network, (ATTEND,))
    assert str(caught.value) == (
        f"convert.rewrites: 'explicit-attention' cannot write out attention with {what}. "
        "Remove the rewrite, or change the model."
    )


def test_written_out_attention_stays_inside_xnnpack(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = loaded(Attend(lambda q, k, v, _: sdpa(q, k, v)), (2, 6, 8), tmp_path)
    fused = android.convert_here(tmp_path, network, (2, 6, 8), android.FLOAT32)
    batch = android.samples((2, 6, 8), 16, seed=2)
    before = runtimes.predict(fused, batch)
    changed = rewritten(network, ATTEND)
    written_out = android.convert_here(tmp_path, changed, (2, 6, 8), android.FLOAT32)
    assert sum(f.count for f in fused.fallbacks) == 12
    assert written_out.fallbacks == ()
    # Sums in another order.
    assert np.abs(runtimes.predict(written_out, batch) - before).max() < 1e-5


def test_mask_of_written_out_attention_takes_no_int8_range_from_the_scores(tmp_path: Path) -> None:
    """A sum with the mask would be given one int8 range for scores and mask together."""
    torch.manual_seed(0)
    causal = Attend(lambda q, k, v, _: sdpa(q, k, v, is_causal=True))
    changed = rewritten(loaded(causal, (2, 6, 8), tmp_path), ATTEND)
    converted = android.convert_here(tmp_path, changed, (2, 6, 8), android.INT8)
    batch = android.samples((2, 6, 8), 16, seed=2)
    expected = android.torch_answers(causal, batch).reshape(16, -1)
    # 36 dB was measured, as with fused attention; with a sum it was 3 dB.
    assert android.sqnr_db(runtimes.predict(converted, batch), expected) > 25


# BatchNorm1d


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3), (4, 12)),
        (nn.Conv1d(4, 6, 3, bias=False, stride=2, padding=1, dilation=2, groups=2), (4, 12)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 12)),
        (nn.Linear(4, 6), (4,)),
    ],
    ids=["conv", "grouped conv", "transposed conv", "linear"],
)
def test_folded_norm_gives_the_same(
    tmp_path: Path, layer: nn.Module, shape: tuple[int, ...]
) -> None:
    network = loaded(normed(layer), shape, tmp_path)
    changed = rewritten(network, FOLD)
    assert not [m for m in changed.modules() if isinstance(m, nn.BatchNorm1d)]
    # One multiplication less to round.
    assert difference(changed, network, shape) < 1e-5


def normed(layer: nn.Module, features: int = 6) -> nn.Module:
    norm = nn.BatchNorm1d(features)
    torch.manual_seed(0)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    norm.running_mean, norm.running_var = torch.randn(features), torch.rand(features) + 0.5
    return nn.Sequential(layer, norm, nn.ReLU())


class TwoReaders(nn.Module):
    """What the convolution gives is read by the norm, and beside it; input (n, 4, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        normed: Tensor = self.norm(y)
        return y + normed


class CalledTwice(nn.Module):
    """One convolution is called twice, and normed once; input (n, 4, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(self.norm(self.conv(x)))
        return mixed


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (TwoReaders(), (4, 12)),
        (CalledTwice(), (4, 12)),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3)), (4, 12)),
        (nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(5)), (5, 8)),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), (1, 8, 8)),
    ],
    ids=["two readers", "called twice", "norm first", "norm along another axis", "batchnorm2d"],
)
def test_norm_that_cannot_be_folded_is_left(
    tmp_path: Path, module: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match="'fold-batchnorm1d' changes nothing in this model"):
        rewrites.apply(loaded(module, shape, tmp_path), (FOLD,))


def test_norms_that_can_be_folded_are_though_others_cannot(tmp_path: Path) -> None:
    network = loaded(nn.Sequential(TwoReaders(), normed(nn.Conv1d(4, 6, 3))), (4, 12), tmp_path)
    changed = rewritten(network, FOLD)
    assert len([m for m in changed.modules() if isinstance(m, nn.BatchNorm1d)]) == 1
    assert difference(changed, network, (4, 12)) < 1e-5


def test_traced_module_is_folded_too() -> None:
    network = seeded(Signal)
    changed = rewritten(network, FOLD)
    assert not [m for m in changed.modules() if isinstance(m, nn.BatchNorm1d)]
    assert difference(changed, network, INPUT_SHAPES[Signal]) < 1e-5


def test_folded_norms_leave_the_tflite_program(tmp_path: Path) -> None:
    network, shape = android.network(Signal), INPUT_SHAPES[Signal]
    counts = {}
    for name, module in (("before", network), ("after", rewritten(network, FOLD))):
        converted = convert_for(tmp_path, module, shape, FLOAT_FIRST)
        counts[name] = {o.operator: o.count for o in converted.operators}
    gone = {
        operator: count - counts["after"].get(operator, 0)
        for operator, count in counts["before"].items()
        if count != counts["after"].get(operator, 0)
    }
    # Each of the two norms was a multiplication and an addition of its own.
    assert (gone["MUL"], gone["ADD"]) == (2, 2)
    assert all(fewer > 0 for fewer in gone.values())


def test_norm_after_a_linear_layer_needs_no_rewrite(tmp_path: Path) -> None:
    network = loaded(normed(nn.Linear(4, 6)), (4,), tmp_path)
    assert convert_for(tmp_path, network, (4,), FLOAT_FIRST).operators == (
        OperatorCount(operator="FULLY_CONNECTED", dtype="float32", count=1),
    )


# The table of what each target lacks


@dataclass(frozen=True)
class Example:
    """A way to use one operator on samples of a shape."""

    apply: Callable[[Tensor], Tensor]
    shape: tuple[int, ...] = (4, 8, 8)


class Using(nn.Module):
    def __init__(self, example: Example) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.apply_layer = example.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_layer(x)


def first_step(layer: nn.RNNBase) -> Callable[[Tensor], Tensor]:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            steps: Tensor = self.layer(x)[0]
            return steps

    return Recurrent()


SIGNAL, VOLUME, STEPS = (4, 16), (2, 4, 4, 4), (11, 4)
GRID = torch.linspace(-0.9, 0.9, 128).reshape(1, 8, 8, 2)
FIRST = torch.zeros(1, 4, 8, 1, dtype=torch.long)

EXAMPLES = {
    "aten.adaptive_max_pool1d": Example(nn.AdaptiveMaxPool1d(1), SIGNAL),
    "aten.adaptive_max_pool2d": Example(nn.AdaptiveMaxPool2d(1)),
    "aten.all": Example(lambda x: (x > 0).all(-1).float()),
    "aten.any": Example(lambda x: (x > 0).any(-1).float()),
    "aten.argsort": Example(lambda x: x.argsort(-1).float()),
    "aten.asin": Example(lambda x: torch.asin(torch.tanh(x))),
    "aten.atan": Example(torch.atan),
    "aten.atan2": Example(lambda x: torch.atan2(x, x + 2)),
    "aten.avg_pool3d": Example(nn.AvgPool3d(2), VOLUME),
    "aten.celu": Example(functional.celu),
    "aten.col2im": Example(lambda x: functional.fold(functional.unfold(x, 2, stride=2), 8, 2, stride=2)),
    "aten.complex": Example(lambda x: torch.view_as_real(torch.complex(x, x))),
    "aten.conv3d": Example(nn.Conv3d(2, 3, 3), VOLUME),
    "aten.conv_transpose3d": Example(nn.ConvTranspose3d(2, 3, 2), VOLUME),
    "aten.cosine_similarity": Example(lambda x: functional.cosine_similarity(x, x + 1, dim=1)),
    "aten.cumprod": Example(lambda x: x.cumprod(-1)),
    "aten.elu": Example(functional.elu),
    "aten.fft_fft": Example(lambda x: torch.fft.fft(x).real),
    "aten.fft_fft2": Example(lambda x: torch.fft.fft2(x).abs()),
    "aten.fft_rfft": Example(lambda x: torch.fft.rfft(x).abs()),
    "aten.fmod": Example(lambda x: torch.fmod(x, 0.7)),
    "aten.gather": Example(lambda x: x.gather(-1, FIRST)),
    "aten.gelu": Example(functional.gelu),
    "aten.grid_sampler": Example(lambda x: functional.grid_sample(x, GRID, align_corners=False)),
    "aten.gru": Example(first_step(nn.GRU(4, 4, batch_first=True)), STEPS),
    "aten.im2col": Example(nn.Unfold(3)),
    "aten.linalg_inv": Example(lambda x: torch.linalg.inv(x + 5 * torch.eye(8))),
    "aten.linalg_vector_norm": Example(lambda x: functional.normalize(x, dim=1)),
    "aten.logsumexp": Example(lambda x: x.logsumexp(-1)),
    "aten.lstm": Example(first_step(nn.LSTM(4, 4, batch_first=True)), STEPS),
    "aten.max_pool3d": Example(nn.MaxPool3d(2), VOLUME),
    "aten.max_unpool2d": Example(
        lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), [2, 2])
    ),
    "aten.median": Example(lambda x: x.median(-1)[0]),
    "aten.mish": Example(functional.mish),
    "aten.nan_to_num": Example(torch.nan_to_num),
    "aten.nonzero": Example(lambda x: x.nonzero().float()),
    "aten.prod": Example(lambda x: x.prod(-1)),
    "aten.rand_like": Example(lambda x: x + torch.rand_like(x)),
    "aten.rnn_relu": Example(first_step(nn.RNN(4, 4, batch_first=True, nonlinearity="relu")), STEPS),
    "aten.rnn_tanh": Example(first_step(nn.RNN(4, 4, batch_first=True)), STEPS),
    "aten.scatter": Example(lambda x: x.scatter(-1, FIRST, 1.0)),
    "aten.selu": Example(functional.selu),
    "aten.sign": Example(torch.sign),
    "aten.softplus": Example(functional.softplus),
    "aten.sort": Example(lambda x: x.sort(-1)[0]),
    "aten.sqrt": Example(lambda x: torch.sqrt(x * x + 1)),
    "aten.std": Example(lambda x: x.std(-1)),
    "aten.stft": Example(
        lambda x: torch.stft(x[:, 0], 8, 4, window=torch.ones(8), return_complex=True).abs(),
        (1, 64),
    ),
    "aten.topk": Example(lambda x: x.topk(3, -1)[0]),
    "aten.trunc": Example(torch.trunc),
    "aten.upsample_linear1d": Example(nn.Upsample(scale_factor=2, mode="linear"), SIGNAL),
}  # fmt: skip


def blocked() -> list[tuple[str, Conversion]]:
    """Return each operator that a rule blocks, with the first settings that it does so for."""
    pairs = []
    for rule in RULES:
        if not rule.blocking:
            continue
        for settings in TARGETS:
            fits = settings.runtime in rule.runtimes and settings.precision in rule.precisions
            # What holds in float32 is not tried in int8 as well; what LiteRT's converter
            # refuses never comes to the other runtimes of its programs.
            again = settings.precision is Precision.INT8 and Precision.FLOAT32 in rule.precisions
            others = {Runtime.TFLITE_MICRO, Runtime.TFLITE_LEGACY}
            refused = settings.runtime in others and Runtime.LITERT in rule.runtimes
            if fits and not again and not refused:
                pairs += [(operator, settings) for operator in sorted(rule.operators)]
    return pairs


def test_each_blocked_operator_has_an_example() -> None:
    assert {operator for rule in RULES if rule.blocking for operator in rule.operators} == set(
        EXAMPLES
    )


def name(value: object) -> str:
    return f"{value.runtime}-{value.precision}" if isinstance(value, Conversion) else str(value)


@pytest.mark.parametrize(("operator", "settings"), blocked(), ids=name)
def test_blocked_operator_is_refused_or_answers_wrong(
    tmp_path: Path, operator: str, settings: Conversion
) -> None:
    example = EXAMPLES[operator]
    network = Using(example).eval()
    captured = torch.export.export(network, (torch.ones(1, *example.shape),))
    found = lint(program.operators(captured), settings)
    assert operator in {f.operator.rpartition(".")[0] for f in found if f.blocking}
    batch = android.samples(example.shape, 4, seed=1)
    try:
        with _converter_errors(settings.runtime):
            converted = convert_for(tmp_path, network, example.shape, settings)
    except PackagerError:
        return
    answers = runtimes.predict(converted, batch)
    expected = np.concatenate(
        [android.torch_answers(network, batch[i : i + 1]).reshape(1, -1) for i in range(4)]
    )
    assert np.abs(answers - expected).max() > 0.5


@pytest.mark.parametrize(
    "activation", [functional.relu, functional.hardswish, functional.silu], ids=lambda f: f.__name__
)
def test_activations_that_the_advice_names_run_in_int8(
    tmp_path: Path, activation: Callable[[Tensor], Tensor]
) -> None:
    converted = convert_for(tmp_path, Using(Example(activation)), (4, 8, 8), MICRO_FIRST)
    assert converted.fallbacks == ()


@pytest.mark.parametrize(
    "settings", [android.FLOAT32, FLOAT_FIRST, MICRO_FIRST], ids=["executorch", "litert", "micro"]
)
def test_maximum_that_the_advice_names_runs_everywhere(
    tmp_path: Path, settings: Conversion
) -> None:
    pooled = Using(Example(lambda x: x.amax((2, 3))))
    batch = android.samples((4, 8, 8), 4, seed=1)
    answers = runtimes.predict(convert_for(tmp_path, pooled, (4, 8, 8), settings), batch)
    # Int8: half a step of 256 over values up to 4.
    assert np.abs(answers - batch.max((2, 3))).max() < 0.03
