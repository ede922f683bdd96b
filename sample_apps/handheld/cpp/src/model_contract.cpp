#include "model_contract.hpp"

#include "digest.hpp"

namespace scan {
namespace {

std::string label_of(std::uint32_t index) { return std::string(scan_contract::labels[index]); }

#if SCAN_READS_SIGNALS
scan_contract::Signal given(const Frame &frame)
{
    return {frame.pixels.data(), frame.pixels.size(), frame.height_px, frame.width_px, frame.bits};
}
#else
scan_contract::Frame given(const Frame &frame)
{
    const bool has_palette = !frame.palette.empty();
    return {
        frame.pixels.data(), frame.pixels.size(), frame.height_px, frame.width_px,
        frame.channels, frame.bits, frame.orientation,
        has_palette ? frame.palette.data() : nullptr, frame.palette.size(),
    };
}
#endif

// Runs a call of the generated code; its refusals become this program's.
template <typename Call> auto refusing(const char *what, Exit exit, Call call)
{
    try {
        return call();
    } catch (const scan_contract::FrameError &error) {
        throw Refusal(exit, "", std::string(what) + error.what() + ".");
    }
}

} // namespace

InputTensor ModelContract::prepare(const Frame &frame)
{
    return refusing("the frame does not fit the contract: ", Exit::bad_frame, [&] {
        return contract_.prepare(given(frame));
    });
}

#if SCAN_ANSWERS_LABELS
Answer ModelContract::answer(const OutputTensor &output, const Frame &)
{
    return refusing("the output means nothing: ", Exit::model_refused, [&] {
        return contract_.answer(output);
    });
}

std::optional<std::uint32_t> decision_of(const Answer &answer) { return answer.label; }

JsonLine keys_of(const Answer &answer)
{
    std::vector<std::string> ranked;
    for (const scan_contract::Scored &scored : answer.ranked) {
        JsonLine part = JsonLine::part();
        part.add("label", label_of(scored.label)).add("probability", scored.probability);
        ranked.push_back(part.object());
    }
    JsonLine keys = JsonLine::part();
    keys.add("label", label_of(answer.label)).add_raw("probabilities", json_array(ranked));
    return keys;
}
#elif SCAN_ANSWERS_BOXES
Answer ModelContract::answer(const OutputTensor &output, const Frame &frame)
{
    const bool turned = scan_build::turns_frames && frame.orientation > 4;
    const std::uint32_t height_px = turned ? frame.width_px : frame.height_px;
    const std::uint32_t width_px = turned ? frame.height_px : frame.width_px;
    return refusing("the output means nothing: ", Exit::model_refused, [&] {
        return contract_.answer(output, height_px, width_px);
    });
}

std::optional<std::uint32_t> decision_of(const Answer &) { return std::nullopt; }

JsonLine keys_of(const Answer &answer)
{
    std::vector<std::string> boxes;
    for (const scan_contract::Box &box : answer) {
        JsonLine part = JsonLine::part();
        part.add("label", label_of(box.label)).add("probability", box.probability);
        // Corners are in 1 / 16 pixel.
        part.add("left_px", box.left / 16.0).add("top_px", box.top / 16.0);
        part.add("right_px", box.right / 16.0).add("bottom_px", box.bottom / 16.0);
        boxes.push_back(part.object());
    }
    JsonLine keys = JsonLine::part();
    keys.add_raw("boxes", json_array(boxes));
    return keys;
}
#else
Answer ModelContract::answer(const OutputTensor &output, const Frame &)
{
    return refusing("the output means nothing: ", Exit::model_refused, [&] {
        return contract_.answer(output);
    });
}

std::optional<std::uint32_t> decision_of(const Answer &) { return std::nullopt; }

JsonLine keys_of(const Answer &answer)
{
    std::vector<std::uint64_t> pixels(scan_contract::labels.size());
    for (const std::uint8_t label : answer) {
        ++pixels.at(label);
    }
    JsonLine keys = JsonLine::part();
    keys.add("pixels", pixels).add("label_map_sha256", sha256(answer.data(), answer.size()));
    return keys;
}
#endif

double real_value(scan_build::OutputNumber stored)
{
    return (static_cast<double>(stored) - scan_build::output_zero_point) * scan_build::output_scale;
}

} // namespace scan
