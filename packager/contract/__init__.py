"""The input and output contract: how a frame becomes a tensor, and a tensor an answer.

This package is the only definition of both. Training, calibration, parity and the golden
vectors in each bundle all go through it, and the code of the sample apps is generated from
it (`packager.codegen`).

    frame  --fit_frame-->  pixels  --normalise-->  float tensor  --to_device-->  input
    signal --fit_signal--> samples                               output --dequantise--> answer
"""

from packager.contract.document import IoContract
from packager.contract.spec import FORMAT_VERSION, Activation, Contract

__all__ = ["FORMAT_VERSION", "Activation", "Contract", "IoContract"]
