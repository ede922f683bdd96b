#include "dicom.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace scan {
namespace {

constexpr std::uint32_t undefined_length = 0xffffffff;
constexpr std::uint64_t preamble_bytes = 128;
constexpr std::uint32_t most_side_px = 16384;
constexpr std::uint32_t most_frames = 100'000;
constexpr std::uint64_t most_value_bytes = 1 << 17; // of a value that is looked at: a palette
constexpr int most_levels = 16;                     // of sequences in sequences
constexpr std::size_t run_header_bytes = 64;        // PS3.5 G.5

// Tags, as group and element in one number.
constexpr std::uint32_t transfer_syntax_tag = 0x00020010;
constexpr std::uint32_t samples_tag = 0x00280002;
constexpr std::uint32_t photometric_tag = 0x00280004;
constexpr std::uint32_t planar_tag = 0x00280006;
constexpr std::uint32_t frames_tag = 0x00280008;
constexpr std::uint32_t rows_tag = 0x00280010;
constexpr std::uint32_t columns_tag = 0x00280011;
constexpr std::uint32_t bits_allocated_tag = 0x00280100;
constexpr std::uint32_t bits_stored_tag = 0x00280101;
constexpr std::uint32_t high_bit_tag = 0x00280102;
constexpr std::uint32_t sign_tag = 0x00280103;
constexpr std::uint32_t first_descriptor_tag = 0x00281101;
constexpr std::uint32_t first_palette_tag = 0x00281201;
constexpr std::uint32_t pixels_tag = 0x7fe00010;
constexpr std::uint32_t item_tag = 0xfffee000;
constexpr std::uint32_t item_end_tag = 0xfffee00d;
constexpr std::uint32_t sequence_end_tag = 0xfffee0dd;

constexpr const char *implicit_little = "1.2.840.10008.1.2";
constexpr const char *explicit_little = "1.2.840.10008.1.2.1";
constexpr const char *run_lengths = "1.2.840.10008.1.2.5";

struct Syntax {
    const char *uid;
    const char *name;
};

// Those that are refused by name; PS3.6 A has them all.
constexpr Syntax known_syntaxes[] = {
    {"1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"},
    {"1.2.840.10008.1.2.2", "Explicit VR Big Endian"},
    {"1.2.840.10008.1.2.4.50", "JPEG Baseline"},
    {"1.2.840.10008.1.2.4.51", "JPEG Extended"},
    {"1.2.840.10008.1.2.4.57", "JPEG Lossless"},
    {"1.2.840.10008.1.2.4.70", "JPEG Lossless, First-Order Prediction"},
    {"1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"},
    {"1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless"},
    {"1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless"},
    {"1.2.840.10008.1.2.4.91", "JPEG 2000"},
    {"1.2.840.10008.1.2.4.100", "MPEG2 Main Profile"},
    {"1.2.840.10008.1.2.4.101", "MPEG2 High Profile"},
    {"1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile"},
    {"1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible"},
    {"1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile"},
    {"1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless"},
    {"1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"},
};

std::string name_of_syntax(const std::string &uid)
{
    for (const Syntax &syntax : known_syntaxes) {
        if (uid == syntax.uid) {
            return syntax.name;
        }
    }
    return "an unknown transfer syntax (" + uid.substr(0, 64) + ")";
}

// Whether the length of an element of this kind is stated in 32 bits, after two that are 0.
bool has_long_length(const char *vr)
{
    static const char *const kinds[] = {
        "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV",
    };
    return std::any_of(std::begin(kinds), std::end(kinds), [&](const char *kind) {
        return std::memcmp(kind, vr, 2) == 0;
    });
}

} // namespace

struct Dicom::Element {
    std::uint32_t tag;
    char vr[3]; // empty where it is not stated
    std::uint32_t length;
    std::uint64_t value_at;

    bool is_undefined() const { return length == undefined_length; }
};

Dicom::Dicom(const ByteFile &file) : file_(file)
{
    const std::uint64_t data_set_at = read_meta();
    const std::string &syntax = image_.transfer_syntax;
    is_packed_ = syntax == run_lengths;
    if (!is_packed_ && syntax != implicit_little && syntax != explicit_little) {
        throw file_.refusal(
            "is compressed as " + name_of_syntax(syntax)
            + ". Store it uncompressed, as Explicit VR Little Endian, or convert it: "
              "`dcmdjpeg` and `gdcmconv --raw` do.");
    }
    read_data_set(data_set_at);
    require_sense();
}

// The group of file meta information, which says how the rest is encoded. Returns its end.
std::uint64_t Dicom::read_meta()
{
    std::uint64_t at = preamble_bytes + 4;
    while (at + 8 <= file_.size()) {
        const Element found = element(at, true);
        if (found.tag >> 16 != 2) {
            break;
        }
        if (found.tag == transfer_syntax_tag) {
            image_.transfer_syntax = text(found);
        }
        at = skip(found, true, 0);
    }
    return at;
}

void Dicom::read_data_set(std::uint64_t at)
{
    const bool is_explicit = image_.transfer_syntax != implicit_little;
    std::uint32_t last = 0;
    while (at < file_.size()) {
        const Element found = element(at, is_explicit);
        // They come in order, so a loop or a jump back is no data set.
        if (found.tag <= last) {
            throw file_.refusal("is damaged: its elements are not in order.");
        }
        last = found.tag;
        if (found.tag == pixels_tag) {
            take_pixels(found);
            return;
        }
        take(found);
        at = skip(found, is_explicit, 0);
    }
}

Dicom::Element Dicom::element(std::uint64_t at, bool is_explicit) const
{
    std::uint8_t head[12] = {};
    file_.read(at, head, 8);
    Element found = {};
    found.tag = static_cast<std::uint32_t>(little_u16(head)) << 16 | little_u16(head + 2);
    const bool is_delimiter = found.tag >> 16 == 0xfffe;
    if (!is_explicit || is_delimiter) {
        found.length = little_u32(head + 4);
        found.value_at = at + 8;
    } else {
        std::memcpy(found.vr, head + 4, 2);
        if (has_long_length(found.vr)) {
            file_.read(at + 8, head + 8, 4);
            found.length = little_u32(head + 8);
            found.value_at = at + 12;
        } else {
            found.length = little_u16(head + 6);
            found.value_at = at + 8;
        }
    }
    if (!found.is_undefined() && found.length > file_.size() - found.value_at) {
        throw file_.refusal("is cut short, or an element claims to be longer than the file.");
    }
    return found;
}

// Returns where the next element begins.
std::uint64_t Dicom::skip(const Element &element, bool is_explicit, int level) const
{
    if (!element.is_undefined()) {
        return element.value_at + element.length;
    }
    // The content of an element of unknown kind is implicit: PS3.5 6.2.2, note 4.
    const bool is_unknown = std::strcmp(element.vr, "UN") == 0;
    return skip_items(element.value_at, file_.size(), is_explicit && !is_unknown, level);
}

// Passes items, each with elements of its own, up to the end of their sequence.
std::uint64_t Dicom::skip_items(
    std::uint64_t at, std::uint64_t end, bool is_explicit, int level) const
{
    if (level >= most_levels) {
        throw file_.refusal("nests sequences too deeply.");
    }
    while (at < end) {
        const Element item = element(at, is_explicit);
        if (item.tag == sequence_end_tag) {
            return item.value_at;
        }
        if (item.tag != item_tag) {
            throw file_.refusal("is damaged: a sequence holds something that is no item.");
        }
        at = item.value_at;
        if (!item.is_undefined()) {
            at += item.length;
            continue;
        }
        for (;;) {
            const Element inner = element(at, is_explicit);
            if (inner.tag == item_end_tag) {
                at = inner.value_at;
                break;
            }
            at = skip(inner, is_explicit, level + 1);
        }
    }
    throw file_.refusal("is damaged: a sequence does not end.");
}

std::uint32_t Dicom::number(const Element &element) const
{
    if (element.length != 2) {
        throw file_.refusal("is damaged: a number of its image has another size.");
    }
    return little_u16(file_.read(element.value_at, 2).data());
}

std::string Dicom::text(const Element &element) const
{
    if (element.length > 64) {
        throw file_.refusal("is damaged: a name of its image is too long.");
    }
    const Bytes bytes = file_.read(element.value_at, element.length);
    std::string text(bytes.begin(), bytes.end());
    // Padded to an even length, with a blank or a NUL.
    text.erase(text.find_last_not_of(std::string(" \0", 2)) + 1);
    return text;
}

void Dicom::take(const Element &element)
{
    switch (element.tag) {
    case samples_tag:
        image_.samples = number(element);
        return;
    case photometric_tag:
        image_.photometric = text(element);
        return;
    case planar_tag:
        image_.planar = number(element) == 1;
        return;
    case frames_tag: {
        char *end = nullptr;
        const std::string digits = text(element);
        const unsigned long frames = std::strtoul(digits.c_str(), &end, 10);
        if (digits.empty() || *end != '\0' || frames < 1 || frames > most_frames) {
            throw file_.refusal("states an impossible number of frames.");
        }
        image_.frames = static_cast<std::uint32_t>(frames);
        return;
    }
    case rows_tag:
        image_.rows = number(element);
        return;
    case columns_tag:
        image_.columns = number(element);
        return;
    case bits_allocated_tag:
        image_.bits_allocated = number(element);
        return;
    case bits_stored_tag:
        image_.bits_stored = number(element);
        return;
    case high_bit_tag:
        image_.high_bit = number(element);
        return;
    case sign_tag:
        image_.is_signed = number(element) != 0;
        return;
    default:
        break;
    }
    const bool describes = element.tag - first_descriptor_tag < 3;
    if (!describes && element.tag - first_palette_tag >= 3) {
        return;
    }
    if (element.length > most_value_bytes || (describes && element.length != 6)) {
        throw file_.refusal("has a palette that is damaged.");
    }
    const Bytes value = file_.read(element.value_at, element.length);
    if (!describes) {
        image_.palette[element.tag - first_palette_tag] = value;
        return;
    }
    for (std::size_t i = 0; i < 3; ++i) {
        image_.palette_descriptors[element.tag - first_descriptor_tag][i]
            = little_u16(value.data() + 2 * i);
    }
}

void Dicom::take_pixels(const Element &element)
{
    if (element.is_undefined() != is_packed_) {
        throw file_.refusal("is damaged: its pixels are not stored as it says.");
    }
    if (!is_packed_) {
        parts_.push_back({element.value_at, element.length});
        return;
    }
    // Packed frames are items, after an item of their places, which are not needed.
    bool first = true;
    std::uint64_t at = element.value_at;
    for (;;) {
        const Element item = this->element(at, true);
        if (item.tag == sequence_end_tag) {
            return;
        }
        if (item.tag != item_tag || item.is_undefined()) {
            throw file_.refusal("is damaged: its packed pixels hold something that is no frame.");
        }
        if (!first) {
            parts_.push_back({item.value_at, item.length});
        }
        if (parts_.size() > image_.frames) {
            throw file_.refusal("holds more packed frames than it states.");
        }
        first = false;
        at = item.value_at + item.length;
    }
}

void Dicom::require_sense() const
{
    const DicomImage &image = image_;
    if (parts_.empty()) {
        throw file_.refusal("holds no pixels.");
    }
    if (image.rows < 1 || image.rows > most_side_px || image.columns < 1
        || image.columns > most_side_px) {
        throw file_.refusal("states an impossible size of its image.");
    }
    if ((image.samples != 1 && image.samples != 3)
        || (image.bits_allocated != 8 && image.bits_allocated != 16)) {
        throw file_.refusal(
            "has pixels of " + std::to_string(image.samples) + " values of "
            + std::to_string(image.bits_allocated) + " bits. Only 1 or 3 of 8 or 16 are read.");
    }
    if (image.is_signed || image.bits_stored < 1 || image.bits_stored > image.bits_allocated
        || image.high_bit + 1 != image.bits_stored) {
        throw file_.refusal("stores values that are signed, or not at the low end of their bits.");
    }
    // An odd number of bytes is padded with one more.
    const std::uint64_t wanted = frame_bytes() * image.frames;
    const bool fits = is_packed_ ? parts_.size() == image.frames
                                 : parts_[0].bytes == wanted + wanted % 2;
    if (!fits) {
        throw file_.refusal("holds more or fewer pixels than it states.");
    }
}

std::uint64_t Dicom::frame_bytes() const
{
    return std::uint64_t{image_.rows} * image_.columns * image_.samples
        * (image_.bits_allocated / 8);
}

// PS3.5 G: the header places segments, each of which holds one byte of each value of one
// channel, the high bytes first.
Bytes Dicom::unpacked(const Part &part) const
{
    if (part.bytes < run_header_bytes) {
        throw file_.refusal("holds a packed frame that is cut short.");
    }
    const Bytes packed = file_.read(part.at, static_cast<std::size_t>(part.bytes));
    const std::size_t value_bytes = image_.bits_allocated / 8;
    const std::size_t segments = image_.samples * value_bytes;
    const std::size_t pixels = std::size_t{image_.rows} * image_.columns;
    if (little_u32(packed.data()) != segments) {
        throw file_.refusal("holds a packed frame of another number of segments than it needs.");
    }
    Bytes frame(pixels * segments);
    for (std::size_t segment = 0; segment < segments; ++segment) {
        const std::size_t begin = little_u32(packed.data() + 4 + 4 * segment);
        const std::size_t end = segment + 1 < segments
            ? little_u32(packed.data() + 8 + 4 * segment)
            : packed.size();
        if (begin < run_header_bytes || begin > end || end > packed.size()) {
            throw file_.refusal("holds a packed frame whose segments are not where they should be.");
        }
        const std::size_t channel = segment / value_bytes;
        const std::size_t byte = value_bytes - 1 - segment % value_bytes;
        std::uint8_t *into = frame.data() + channel * value_bytes + byte;
        std::size_t done = 0;
        std::size_t at = begin;
        while (at < end && done < pixels) {
            const std::uint8_t code = packed[at++];
            if (code == 128) {
                continue;
            }
            const bool repeats = code > 128;
            const std::size_t count = repeats ? 257u - code : code + 1u;
            const std::size_t taken = repeats ? 1 : count;
            if (taken > end - at || count > pixels - done) {
                throw file_.refusal("holds a packed frame with a run that does not fit.");
            }
            for (std::size_t i = 0; i < count; ++i, ++done) {
                into[done * segments] = packed[repeats ? at : at + i];
            }
            at += taken;
        }
        if (done != pixels) {
            throw file_.refusal("holds a packed frame that is cut short.");
        }
    }
    return frame;
}

Bytes Dicom::frame(std::size_t index) const
{
    const std::uint64_t bytes = frame_bytes();
    Bytes values = is_packed_
        ? unpacked(parts_.at(index))
        : file_.read(parts_[0].at + index * bytes, static_cast<std::size_t>(bytes));
    const std::size_t value_bytes = image_.bits_allocated / 8;
    // Packed frames come in planes, whatever they state, and are interleaved by now.
    if (image_.planar && !is_packed_ && image_.samples == 3) {
        Bytes interleaved(values.size());
        const std::size_t pixels = values.size() / (3 * value_bytes);
        for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
            for (std::size_t channel = 0; channel < 3; ++channel) {
                std::memcpy(
                    interleaved.data() + (3 * pixel + channel) * value_bytes,
                    values.data() + (channel * pixels + pixel) * value_bytes, value_bytes);
            }
        }
        values = std::move(interleaved);
    }
    if (image_.bits_stored < image_.bits_allocated) {
        const unsigned mask = (1u << image_.bits_stored) - 1;
        for (std::size_t at = 0; at < values.size(); ++at) {
            values[at] = static_cast<std::uint8_t>(values[at] & mask >> 8 * (at % value_bytes));
        }
    }
    return values;
}

} // namespace scan
