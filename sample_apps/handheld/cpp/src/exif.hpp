// The orientation that an image file states of itself.
#ifndef SCAN_EXIF_HPP
#define SCAN_EXIF_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace scan {

// Of a block of EXIF, which is a small TIFF file; nothing where the block does not say.
std::optional<std::uint32_t> exif_orientation(const std::uint8_t *block, std::size_t bytes);

// Of a packet of XMP; nothing where it does not say.
std::optional<std::uint32_t> xmp_orientation(std::string_view packet);

} // namespace scan

#endif
