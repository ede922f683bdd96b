// One frame or signal as it comes, before anything is done to it.
#ifndef SCAN_FRAME_HPP
#define SCAN_FRAME_HPP

#include "byte_file.hpp"

namespace scan {

// What the values of a pixel are, as a contract names it.
enum class Colour { gray, rgb, bgr, ybr, palette };

// Of a signal, height is the number of leads, width the samples of one lead, channels 1.
struct Frame {
    Bytes pixels; // rows without gaps; values of 16 bits and floats in the machine's byte order
    std::uint32_t height_px = 0;
    std::uint32_t width_px = 0;
    std::uint32_t channels = 0; // values a pixel
    std::uint32_t bits = 0;     // of one value
    std::uint32_t orientation = 1; // EXIF's
    Bytes palette; // red, green, blue of each entry, in the type of the pixels; else empty
};

} // namespace scan

#endif
