// The bundle's contract, whatever it reads and answers, under names that do not change.
#ifndef SCAN_MODEL_CONTRACT_HPP
#define SCAN_MODEL_CONTRACT_HPP

#include "frame.hpp"
#include "json_line.hpp"
#include "scan_contract.hpp"

#include <optional>
#include <vector>

namespace scan {

using InputTensor = std::vector<scan_build::InputNumber>;
using OutputTensor = std::vector<scan_build::OutputNumber>;

// What the program's output means: a decided label, objects, or the label of each pixel.
#if SCAN_ANSWERS_LABELS
using Answer = scan_contract::Decision;
#elif SCAN_ANSWERS_BOXES
using Answer = std::vector<scan_contract::Box>;
#else
using Answer = std::vector<std::uint8_t>;
#endif

// The index of the decided label; none of a model that decides by object or pixel.
std::optional<std::uint32_t> decision_of(const Answer &answer);

// What is printed: label and probabilities, or boxes, or how many pixels have each label.
JsonLine keys_of(const Answer &answer);

// Turns frames into inputs and outputs into answers; refuses as bad frames what does not fit.
class ModelContract {
public:
    InputTensor prepare(const Frame &frame);

    // `frame` is the one that the output came of: boxes are in its pixels.
    Answer answer(const OutputTensor &output, const Frame &frame);

private:
    scan_contract::Contract contract_;
};

// What an output stands for.
double real_value(scan_build::OutputNumber stored);

} // namespace scan

#endif
