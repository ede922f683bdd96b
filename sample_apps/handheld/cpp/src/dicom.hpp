// Reads the images of DICOM objects whose pixels are not compressed, or by run lengths.
#ifndef SCAN_DICOM_HPP
#define SCAN_DICOM_HPP

#include "byte_file.hpp"

#include <array>
#include <string>

namespace scan {

// What an object says of its images; PS3.3 C.7.6.3 names the attributes.
struct DicomImage {
    std::string transfer_syntax;
    std::string photometric; // such as MONOCHROME2
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    std::uint32_t samples = 0; // values a pixel
    std::uint32_t bits_allocated = 0;
    std::uint32_t bits_stored = 0;
    std::uint32_t high_bit = 0;
    std::uint32_t frames = 1;
    bool is_signed = false;
    bool planar = false; // all red values of a frame, then all green, then all blue
    // Of a palette: entries, first pixel value, bits an entry; and red, green, blue entries.
    std::array<std::array<std::uint16_t, 3>, 3> palette_descriptors = {};
    std::array<Bytes, 3> palette;
};

// One object: its description is read at once, its frames one by one.
class Dicom {
public:
    // Refuses what is no such object, is damaged, or is compressed in another way.
    explicit Dicom(const ByteFile &file);

    const DicomImage &image() const noexcept { return image_; }

    // The stored values of a frame, pixel by pixel, little-endian: planes are interleaved,
    // and bits beyond `bits_stored` are cleared.
    Bytes frame(std::size_t index) const;

private:
    struct Element;
    struct Part {
        std::uint64_t at;
        std::uint64_t bytes;
    };

    std::uint64_t read_meta();
    void read_data_set(std::uint64_t at);
    Element element(std::uint64_t at, bool is_explicit) const;
    std::uint64_t skip(const Element &element, bool is_explicit, int level) const;
    std::uint64_t skip_items(std::uint64_t at, std::uint64_t end, bool is_explicit, int level) const;
    void take(const Element &element);
    void take_pixels(const Element &element);
    void require_sense() const;
    std::uint32_t number(const Element &element) const;
    std::string text(const Element &element) const;
    std::uint64_t frame_bytes() const;
    Bytes unpacked(const Part &part) const;

    const ByteFile &file_;
    DicomImage image_;
    std::vector<Part> parts_; // of the pixels: one, or one a frame where they are packed
    bool is_packed_ = false;
};

} // namespace scan

#endif
