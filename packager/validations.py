"""What a device showed when a bundle ran on it: the evidence that travels with the bundle.

Every figure belongs to the device that its record names. What a device cannot tell is
listed with the reason, and never filled in from another.
"""

from dataclasses import dataclass

from packager.artifacts import Precision


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """A figure that this device could not give, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RanFile:
    """A file that was on the device: the program, or a library that it loaded."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class OutputCheck:
    """The device's outputs for the golden samples, held against those of the build's machine.

    Attributes:
        reference: What gave the golden outputs, such as `LiteRT 2.3.0 on x86_64`.
        precision: How the program computes, which decides the tolerance.
        tolerance_ratio: Largest allowed error, as a share of the largest golden output; 0.0
            asks for equal bits.
        tolerance_reason: Why bits need not be equal; empty where they must be.
        samples: Golden samples that were run.
        inputs_differing: Samples whose input the device's own contract code did not make byte
            for byte; None where that code was not run.
        outputs_differing: Samples with an output beyond the tolerance.
        decisions_differing: Samples that were decided otherwise.
        max_abs_error: Over all outputs of all samples, as real values.
    """

    reference: str
    precision: Precision
    tolerance_ratio: float
    tolerance_reason: str
    samples: int
    inputs_differing: int | None
    outputs_differing: int
    decisions_differing: int
    max_abs_error: float


@dataclass(frozen=True, kw_only=True)
class SimdCount:
    """How many instructions of one SIMD class ran, such as `sdot`: it shows which kernels ran."""

    name: str
    instructions: int


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """What one operator of the program takes of an inference."""

    name: str
    instructions: int
    share_ratio: float


@dataclass(frozen=True, kw_only=True)
class InstructionCounts:
    """Guest instructions, counted, never converted to time.

    Attributes:
        source: What counted them.
        startup: From the program's first line to the model being ready.
        prepare: From a raw frame to the program's input; the most of all samples. None where
            the device's program begins at the input.
        inference: The most of all but the first, which also fills caches.
        first_inference: The first.
        answer: From the output to the decision; the most of all samples. None where the
            device's program ends at the output.
        inferences: How many were counted.
        repeats: True where each inference took the same in a second run, to the digit.
        simd: Of one inference, by class; empty where the source cannot tell.
        operators: Of one inference, the dearest first; empty where the source cannot tell.
    """

    source: str
    startup: int
    prepare: int | None
    inference: int
    first_inference: int
    answer: int | None
    inferences: int
    repeats: bool
    simd: tuple[SimdCount, ...]
    operators: tuple[OperatorCost, ...]


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """The most memory that the program held, and the limit under which it ran to its end."""

    source: str
    peak_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one inference on silicon; there is none for an emulated device."""

    inferences: int
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class OfflineProof:
    """What shows that the program used no network.

    Attributes:
        source: What recorded the system calls; empty where nothing did.
        calls: How often each system call was made, by name.
        network_calls: The record's lines that concern a network; a proof has none.
        network_devices: The device's network interfaces; None where that was not looked at.
    """

    source: str
    calls: tuple[tuple[str, int], ...]
    network_calls: tuple[str, ...]
    network_devices: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One bundle, run on one device.

    Attributes:
        device: As on the command line, such as `qemu-user:cortex-a72`.
        description: In words, with versions.
        emulated: True unless this was the silicon itself.
        runtime: What ran the model, such as `LiteRT 2.3.0 on aarch64`.
        model_sha256, contract_sha256, golden_sha256: What was proven, by content.
        ran: The program first, then the libraries beside it.
        not_measured: What this device could not tell.
    """

    device: str
    description: str
    emulated: bool
    architecture: str
    target: str
    runtime: str
    model_sha256: str
    contract_sha256: str
    golden_sha256: str
    ran: tuple[RanFile, ...]
    outputs: OutputCheck
    instructions: InstructionCounts | None
    memory: PeakMemory | None
    latency: Latency | None
    offline: OfflineProof | None
    not_measured: tuple[NotMeasured, ...]
