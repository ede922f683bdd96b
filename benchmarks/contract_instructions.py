"""Count what generated C costs on a Cortex-M4, beside a plain loop that does the same sums.

    python benchmarks/contract_instructions.py

A gray frame of 640 x 480 pixels becomes an int8 tensor of 96 x 96. Prints the instructions of
both, their ratio, and what it costs once to plan the blending. They are counted under QEMU,
one by one and the same in every run: instructions, and not time. Exits with 1 where the
generated code takes more than 1.05 times as many as the plain loop.
"""

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from packager.artifacts import Layout, Precision, TensorIo
from packager.codegen import Language, generate
from packager.contract import Activation, Contract, IoContract
from packager.contract.spec import Colour, ImageSource, Orientation, Resize, ResizeMode

HERE = Path(__file__).parent
RUNNERS = HERE.parent / "tests" / "languages" / "runners"
LIMIT_RATIO = 1.05
COMPILER = (
    "arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16",
    "-std=c99", "-O2", "-ffreestanding", "-nostdlib", "-T", str(RUNNERS / "cortex_m.ld"),
)  # fmt: skip
# With -icount, the emulator's clock goes on by a nanosecond with each instruction.
EMULATOR = (
    "qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-display", "none",
    "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native",
)  # fmt: skip
SHAPE = (1, 96, 96, 1)
CONTRACT = IoContract(
    contract=Contract(
        input_shape=(1, 96, 96),
        source=ImageSource(
            kind="image",
            colour=Colour.GRAY,
            bits=8,
            size_px=(480, 640),
            orientation=Orientation.IGNORE,
        ),
        resize=Resize(mode=ResizeMode.ANTIALIAS),
        full_scale=255.0,
        mean=(0.5,),
        std=(0.25,),
        activation=Activation.SOFTMAX,
        labels=("benign", "malignant"),
    ),
    input=TensorIo(
        shape=SHAPE, layout=Layout.CHANNELS_LAST, dtype=Precision.INT8, scale=1 / 64, zero_point=0
    ),
    output=TensorIo(
        shape=(1, 2), layout=Layout.CHANNELS_LAST, dtype=Precision.INT8, scale=0.1, zero_point=0
    ),
)


def main() -> int:
    """Count, print, and return 1 if the generated code takes too many, else 0."""
    with tempfile.TemporaryDirectory() as name:
        first, steady, plain = counts(Path(name))
    ratio = steady / plain
    print("640 x 480 8-bit gray to 96 x 96 int8, antialias; Cortex-M4, gcc -O2")
    print("instructions under an emulator, not time:")
    print(f"generated   {steady:>12,}")
    print(f"plain loop  {plain:>12,}")
    print(f"ratio       {ratio:>12.3f}   limit {LIMIT_RATIO}")
    print(f"planning    {first - steady:>12,}   once for a size of frames")
    return int(ratio > LIMIT_RATIO)


def counts(folder: Path) -> tuple[int, int, int]:
    """Return the instructions of a first frame, of another one, and of the plain loop."""
    for file, text in generate(CONTRACT, "breast-net", Language.C).items():
        (folder / file).write_text(text, "utf-8")
    sources = [folder / "breast_net_contract.c", HERE / "contract_instructions.c"]
    sources.append(RUNNERS / "cortex_m.c")
    include = ["-I", str(folder), "-I", str(RUNNERS)]
    compiled = [*COMPILER, *include, *map(str, sources), "-lgcc", "-o", "counts.elf"]
    for command in (compiled, [*EMULATOR, "-kernel", "counts.elf"]):
        subprocess.run(command, cwd=folder, check=True)
    first, steady, plain = struct.unpack("<3I", (folder / "counts").read_bytes())
    return first, steady, plain


if __name__ == "__main__":
    sys.exit(main())
