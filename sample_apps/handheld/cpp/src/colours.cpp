#include "colours.hpp"

#include "scan_contract.hpp"

#include <cstring>

namespace scan {
namespace {

// Pixels of 8 or 16 bits: each value is copied whole, whatever its bytes are.
void look_up_palette(Frame &frame)
{
    const std::size_t entry_bytes = 3 * (frame.bits / 8);
    const std::size_t entries = frame.palette.size() / entry_bytes;
    Bytes colours;
    colours.reserve(frame.pixels.size() * entry_bytes);
    for (const std::uint8_t index : frame.pixels) {
        if (index >= entries) {
            throw Refusal(Exit::bad_frame, "", "wrong-palette: a pixel has no colour in the palette.");
        }
        const auto entry = frame.palette.begin() + static_cast<std::ptrdiff_t>(index * entry_bytes);
        colours.insert(colours.end(), entry, entry + static_cast<std::ptrdiff_t>(entry_bytes));
    }
    frame.pixels = std::move(colours);
    frame.palette.clear();
    frame.channels = 3;
}

void spread_gray(Frame &frame)
{
    const std::size_t value_bytes = frame.bits / 8;
    Bytes colours(frame.pixels.size() * 3);
    for (std::size_t at = 0; at < frame.pixels.size(); at += value_bytes) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
            std::memcpy(
                colours.data() + 3 * at + channel * value_bytes, frame.pixels.data() + at,
                value_bytes);
        }
    }
    frame.pixels = std::move(colours);
    frame.channels = 3;
}

bool gather_gray(Frame &frame)
{
    const std::size_t value_bytes = frame.bits / 8;
    const std::size_t pixel_bytes = 3 * value_bytes;
    Bytes gray(frame.pixels.size() / 3);
    for (std::size_t at = 0; at < frame.pixels.size(); at += pixel_bytes) {
        const std::uint8_t *pixel = frame.pixels.data() + at;
        if (std::memcmp(pixel, pixel + value_bytes, 2 * value_bytes) != 0) {
            return false;
        }
        std::memcpy(gray.data() + at / 3, pixel, value_bytes);
    }
    frame.pixels = std::move(gray);
    frame.channels = 1;
    return true;
}

void swap_red_and_blue(Frame &frame)
{
    const std::size_t value_bytes = frame.bits / 8;
    for (std::size_t at = 0; at < frame.pixels.size(); at += 3 * value_bytes) {
        std::uint8_t *pixel = frame.pixels.data() + at;
        for (std::size_t byte = 0; byte < value_bytes; ++byte) {
            std::swap(pixel[byte], pixel[2 * value_bytes + byte]);
        }
    }
}

} // namespace

bool state_in_contract_colour(Frame &frame, Colour stated)
{
    constexpr Colour wanted = scan_build::colour;
    if (stated == wanted) {
        return true;
    }
    if (wanted == Colour::palette || wanted == Colour::ybr || stated == Colour::ybr) {
        return false;
    }
    if (stated == Colour::palette) {
        look_up_palette(frame);
    }
    if (wanted == Colour::gray) {
        return gather_gray(frame);
    }
    if (stated == Colour::gray) {
        spread_gray(frame);
    } else if (wanted == Colour::bgr) {
        swap_red_and_blue(frame);
    }
    return true;
}

const char *name_of(Colour colour)
{
    switch (colour) {
    case Colour::gray:
        return "gray";
    case Colour::rgb:
        return "rgb";
    case Colour::bgr:
        return "bgr";
    case Colour::ybr:
        return "ybr";
    case Colour::palette:
        return "palette";
    }
    return "unknown";
}

} // namespace scan
