"""What a browser makes of a contract: Chromium runs the generated module, with no network.

The canvas can scale frames, too. In place of the contract's resize it gives other bytes.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.artifacts import Layout, Precision, TensorIo
from packager.codegen import Language, generate
from packager.contract import IoContract
from packager.contract.frames import Frame
from packager.contract.golden import first_difference, prepare
from packager.contract.spec import (
    Activation,
    Colour,
    Contract,
    ImageSource,
    Resize,
    ResizeMode,
)
from tests.conftest import require_package, require_program

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

Quality = Literal["low", "medium", "high"]
Floats = NDArray[np.float32]

HEIGHT, WIDTH, SIDE = 480, 640, 96
# The name of no computer. The test answers for it, and aborts whatever is not in its hands.
ADDRESS = "https://app.invalid/"
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
# A gray frame on a canvas, as a player of ultrasound loops draws it: red, green, blue, opaque.
DRAWN = """
  const gray = new Uint8Array(await (await fetch("frame")).arrayBuffer());
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const rgba = Uint8ClampedArray.from({ length: 4 * gray.length }, (_, i) =>
    i % 4 === 3 ? 255 : gray[i >> 2],
  );
  canvas.getContext("2d").putImageData(new ImageData(rgba, WIDTH, HEIGHT), 0, 0);
  const { frameOfImageData, prepare } = await import("./speckle_contract.mjs");
  const inputOf = (shown) => {
    const image = shown.getContext("2d").getImageData(0, 0, shown.width, shown.height);
    return Array.from(prepare(frameOfImageData(image)));
  };
""".replace("WIDTH", str(WIDTH)).replace("HEIGHT", str(HEIGHT))
BY_CONTRACT = f"async () => {{ {DRAWN} return inputOf(canvas); }}"
BY_CANVAS = f"""async (quality) => {{
  {DRAWN}
  const small = new OffscreenCanvas({SIDE}, {SIDE});
  const context = small.getContext("2d");
  context.imageSmoothingQuality = quality;
  context.drawImage(canvas, 0, 0, {SIDE}, {SIDE});
  return inputOf(small);
}}"""

TRANSPARENT = """async () => {
  const { FrameError, frameOfImageData } = await import("./speckle_contract.mjs");
  try {
    frameOfImageData(new ImageData(1, 1));
  } catch (error) {
    return error instanceof FrameError && error.fault;
  }
}"""


def contract() -> IoContract:
    """Return the contract of a coloured frame of any size, stretched to the tensor's."""
    said = Contract(
        input_shape=(3, SIDE, SIDE),
        source=ImageSource(kind="image", colour=Colour.RGB, bits=8),
        resize=Resize(mode=ResizeMode.ANTIALIAS),
        full_scale=255.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        activation=Activation.SOFTMAX,
        labels=("benign", "malignant"),
    )
    first, float32 = Layout.CHANNELS_FIRST, Precision.FLOAT32
    given = TensorIo(shape=(1, 3, SIDE, SIDE), layout=first, dtype=float32)
    return IoContract(
        contract=said, input=given, output=TensorIo(shape=(1, 2), layout=first, dtype=float32)
    )


def speckle() -> NDArray[np.uint8]:
    """Return a frame of fully developed speckle, as any ultrasound image has it."""
    echoes = np.random.default_rng(0).rayleigh(60.0, (HEIGHT, WIDTH))
    return echoes.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def golden() -> Floats:
    frame = Frame(pixels=np.repeat(speckle()[..., np.newaxis], 3, axis=2))
    return np.asarray(prepare(frame, contract()), np.float32)


@pytest.fixture(scope="module")
def page() -> Iterator["Page"]:
    require_package("playwright", "dev")
    chromium = require_program("chromium", "Install Debian's package chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(ADDRESS)
        yield page
        browser.close()


def answer(route: "Route") -> None:
    """Give the page what it is made of; a test reaches out to nobody."""
    html, script = "text/html", "text/javascript"
    modules = generate(contract(), "speckle", Language.JAVASCRIPT)
    parts: dict[str, tuple[str, str | bytes]] = {
        ADDRESS: (html, "<!doctype html><title>app</title>"),
        f"{ADDRESS}frame": ("application/octet-stream", speckle().tobytes()),
    }
    parts |= {f"{ADDRESS}{name}": (script, text) for name, text in modules.items()}
    if route.request.url not in parts:
        route.abort()
        return
    kind, body = parts[route.request.url]
    route.fulfill(content_type=kind, body=body)


def test_generated_module_gives_the_golden_tensor_in_a_browser(
    page: "Page", golden: Floats
) -> None:
    tensor = np.array(page.evaluate(BY_CONTRACT), np.float32)

    assert digest(tensor) == digest(golden)


@pytest.mark.parametrize("quality", ["low", "medium", "high"])
def test_scaler_of_the_canvas_is_caught_by_the_golden_tensor(
    page: "Page", golden: Floats, quality: Quality
) -> None:
    tensor = np.array(page.evaluate(BY_CANVAS, quality), np.float32)

    # The picture is the same, or it would be no fair comparison: half a deviation is far apart.
    assert np.abs(tensor - golden.ravel()).mean() < 0.5
    assert first_difference(golden, tensor) is not None


def test_canvas_that_is_not_opaque_is_refused(page: "Page") -> None:
    assert page.evaluate(TRANSPARENT) == "wrong-channels"


def digest(tensor: Floats) -> str:
    return hashlib.sha256(tensor.tobytes()).hexdigest()
