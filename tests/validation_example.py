"""What a device showed of a bundle that does all that it promises, for tests to change."""

from packager.artifacts import Precision
from packager.validations import (
    InstructionCounts,
    NotMeasured,
    OfflineProof,
    OperatorCost,
    OutputCheck,
    PeakMemory,
    RanFile,
    SimdCount,
    Validation,
)

REFERENCE = "LiteRT 2.3.0 on x86_64"
DEVICE = "qemu-system:cortex-a72"
TARGET = "ultrasound-handheld-arm64"

OUTPUTS = OutputCheck(
    reference=REFERENCE,
    precision=Precision.INT8,
    tolerance_ratio=0.0,
    tolerance_reason="",
    samples=16,
    inputs_differing=0,
    outputs_differing=0,
    decisions_differing=0,
    max_abs_error=0.0,
)
COUNTS = InstructionCounts(
    source="counted by a plugin inside the emulator",
    startup=9_000_000,
    prepare=41_000,
    inference=8_000_000,
    first_inference=8_200_000,
    answer=900,
    inferences=16,
    repeats=True,
    simd=(SimdCount(name="sdot", instructions=1_300_000),),
    operators=(
        OperatorCost(name="conv #1", instructions=6_000_000, share_ratio=0.75),
        OperatorCost(name="linear #2", instructions=2_000_000, share_ratio=0.25),
    ),
)
OFFLINE = OfflineProof(
    source="strace 6.1",
    calls=(("mmap", 40), ("read", 60)),
    network_calls=(),
    network_devices=("lo",),
)
VALIDATION = Validation(
    device=DEVICE,
    description="Cortex-A72, emulated by qemu-system-aarch64 7.2.22",
    emulated=True,
    architecture="aarch64",
    target=TARGET,
    runtime="LiteRT 2.3.0 on aarch64",
    model_sha256="a1" * 32,
    contract_sha256="b2" * 32,
    golden_sha256="c3" * 32,
    ran=(RanFile(name="scan", sha256="d4" * 32, size_bytes=200_000),),
    outputs=OUTPUTS,
    instructions=COUNTS,
    memory=PeakMemory(source="the guest's cgroup", peak_bytes=2_809_856, limit_bytes=268_435_456),
    latency=None,
    offline=OFFLINE,
    not_measured=(NotMeasured(what="latency", reason="an emulator knows no time"),),
)
