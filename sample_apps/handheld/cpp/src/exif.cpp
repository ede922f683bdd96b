#include "exif.hpp"

namespace scan {
namespace {

constexpr std::size_t header_bytes = 8;
constexpr std::size_t entry_bytes = 12;
constexpr std::uint16_t orientation_tag = 0x0112;
constexpr std::uint16_t type_short = 3;
constexpr std::string_view prefix("Exif\0\0", 6);

struct Tiff {
    const std::uint8_t *bytes;
    std::size_t size;
    bool big_endian;

    std::uint16_t u16(std::size_t at) const
    {
        const unsigned first = bytes[at];
        const unsigned second = bytes[at + 1];
        return static_cast<std::uint16_t>(big_endian ? first << 8 | second : second << 8 | first);
    }

    std::uint32_t u32(std::size_t at) const
    {
        const std::uint32_t first = u16(at);
        const std::uint32_t second = u16(at + 2);
        return big_endian ? first << 16 | second : second << 16 | first;
    }
};

} // namespace

std::optional<std::uint32_t> exif_orientation(const std::uint8_t *block, std::size_t bytes)
{
    std::string_view text(reinterpret_cast<const char *>(block), bytes);
    if (text.substr(0, prefix.size()) == prefix) {
        text.remove_prefix(prefix.size());
    }
    Tiff tiff = {reinterpret_cast<const std::uint8_t *>(text.data()), text.size(), false};
    if (tiff.size < header_bytes) {
        return std::nullopt;
    }
    tiff.big_endian = text[0] == 'M';
    const bool is_tiff = text.substr(0, 2) == (tiff.big_endian ? "MM" : "II") && tiff.u16(2) == 42;
    const std::uint64_t directory = tiff.u32(4);
    if (!is_tiff || directory + 2 > tiff.size) {
        return std::nullopt;
    }
    const std::size_t entries = tiff.u16(directory);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::uint64_t at = directory + 2 + i * entry_bytes;
        if (at + entry_bytes > tiff.size) {
            return std::nullopt;
        }
        if (tiff.u16(at) == orientation_tag) {
            // A value of another kind is an orientation that no contract knows.
            const bool one_short = tiff.u16(at + 2) == type_short && tiff.u32(at + 4) == 1;
            return one_short ? tiff.u16(at + 8) : 0;
        }
    }
    return std::nullopt;
}

std::optional<std::uint32_t> xmp_orientation(std::string_view packet)
{
    constexpr std::string_view name = "tiff:Orientation";
    for (std::size_t at = packet.find(name); at != packet.npos; at = packet.find(name, at + 1)) {
        std::string_view rest = packet.substr(at + name.size());
        // As an attribute or as an element: tiff:Orientation="6" or <tiff:Orientation>6.
        const std::size_t skipped = rest.substr(0, 2) == "=\"" ? 2 : rest.substr(0, 1) == ">" ? 1 : 0;
        rest.remove_prefix(skipped);
        if (skipped > 0 && !rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
            return static_cast<std::uint32_t>(rest[0] - '0');
        }
    }
    return std::nullopt;
}

} // namespace scan
