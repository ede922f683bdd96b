// Gives the frames of a DICOM object as the bundle's contract wants them.
//
// Stored values are taken as they are: no rescale slope, no window, no overlay. A contract
// is made for what the pixels hold, and not for how a viewer would show them.
#include "colours.hpp"
#include "dicom.hpp"
#include "scan_contract.hpp"
#include "sources.hpp"

#include <cstring>

namespace scan {
namespace {

constexpr std::uint64_t mark_at = 128;

class DicomSource final : public FrameSource {
public:
    explicit DicomSource(std::unique_ptr<ByteFile> file)
        : file_(std::move(file)), dicom_(*file_), colour_(stated_colour())
    {
        const DicomImage &image = dicom_.image();
        if (image.bits_allocated != scan_build::bits) {
            throw file_->refusal(
                "has pixels of " + std::to_string(image.bits_allocated)
                + " bits; the contract says " + std::to_string(scan_build::bits) + ".");
        }
        if (colour_ == Colour::palette) {
            palette_ = palette();
        }
    }

    std::size_t count() const override { return dicom_.image().frames; }
    Frame frame(std::size_t index) override;

private:
    Colour stated_colour() const;
    Bytes palette() const;

    std::unique_ptr<ByteFile> file_;
    Dicom dicom_;
    Colour colour_;
    Bytes palette_;
};

Colour DicomSource::stated_colour() const
{
    const DicomImage &image = dicom_.image();
    const bool one = image.samples == 1;
    if (one && (image.photometric == "MONOCHROME1" || image.photometric == "MONOCHROME2")) {
        return Colour::gray;
    }
    if (one && image.photometric == "PALETTE COLOR" && image.bits_allocated == 8) {
        return Colour::palette;
    }
    if (!one && image.photometric == "RGB") {
        return Colour::rgb;
    }
    if (!one && image.photometric == "YBR_FULL") {
        return Colour::ybr;
    }
    throw file_->refusal(
        "has pixels that are " + image.photometric.substr(0, 16) + " of "
        + std::to_string(image.samples)
        + " values. MONOCHROME1 and 2, RGB, YBR_FULL and 8-bit PALETTE COLOR are read.");
}

// Red, green and blue of each entry, in 8 bits; refused where 8 bits do not hold them.
Bytes DicomSource::palette() const
{
    const DicomImage &image = dicom_.image();
    const std::array<std::uint16_t, 3> &said = image.palette_descriptors[0];
    const std::size_t entries = said[0] == 0 ? 65536 : said[0];
    const bool wide = said[2] == 16;
    const bool alike = image.palette_descriptors[1] == said && image.palette_descriptors[2] == said;
    if (!alike || said[1] != 0 || (said[2] != 8 && !wide)) {
        throw file_->refusal("has a palette that is not of 8 or 16 bits from 0 on.");
    }
    Bytes colours(3 * std::min<std::size_t>(entries, 256));
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const Bytes &values = image.palette[channel];
        const std::size_t bytes = wide ? 2 * entries : entries + entries % 2;
        if (values.size() != bytes) {
            throw file_->refusal("has a palette that is cut short.");
        }
        for (std::size_t entry = 0; entry < colours.size() / 3; ++entry) {
            const std::size_t high = wide ? 2 * entry + 1 : entry;
            // 8 bits in 16: with zeros below, or twice.
            const std::uint8_t low = wide ? values[2 * entry] : std::uint8_t{0};
            if (low != 0 && low != values[high]) {
                throw file_->refusal("has a palette whose colours need more than 8 bits.");
            }
            colours[3 * entry + channel] = values[high];
        }
    }
    return colours;
}

// Black is 0 in MONOCHROME2, which is what contracts call gray.
void invert(Frame &frame, std::uint32_t bits_stored)
{
    const unsigned highest = (1u << bits_stored) - 1;
    const std::size_t value_bytes = frame.bits / 8;
    for (std::size_t at = 0; at < frame.pixels.size(); ++at) {
        const unsigned of_byte = highest >> 8 * (at % value_bytes) & 0xff;
        frame.pixels[at] = static_cast<std::uint8_t>(frame.pixels[at] ^ of_byte);
    }
}

Frame DicomSource::frame(std::size_t index)
{
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are taken as they are stored");
    const DicomImage &image = dicom_.image();
    Frame frame;
    frame.pixels = dicom_.frame(index);
    frame.height_px = image.rows;
    frame.width_px = image.columns;
    frame.channels = image.samples;
    frame.bits = image.bits_allocated;
    frame.palette = palette_;
    if (image.photometric == "MONOCHROME1") {
        invert(frame, image.bits_stored);
    }
    if (!state_in_contract_colour(frame, colour_)) {
        throw file_->refusal(
            std::string("has pixels that are ") + name_of(colour_) + ", not "
            + name_of(scan_build::colour) + ".");
    }
    return frame;
}

} // namespace

bool is_dicom(const ByteFile &file)
{
    return file.size() >= mark_at + 4
        && std::memcmp(file.read(mark_at, 4).data(), "DICM", 4) == 0;
}

std::unique_ptr<FrameSource> open_dicom(std::unique_ptr<ByteFile> file)
{
    return std::make_unique<DicomSource>(std::move(file));
}

} // namespace scan
