// Reads PNG files as the bundle's contract wants them: pixels as they are stored, and nothing
// that a decoder usually does on the way, such as gamma, colour profiles or blending.
#include "colours.hpp"
#include "exif.hpp"
#include "scan_contract.hpp"
#include "sources.hpp"

#include <csetjmp>
#include <cstring>
#include <png.h>

namespace scan {
namespace {

constexpr png_byte signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr png_uint_32 most_side_px = 16384; // what contracts allow
constexpr png_alloc_size_t most_chunk_bytes = 8 << 20;
constexpr png_uint_32 most_chunks = 128;

// libpng's own state, and what its callbacks share. libpng leaves a function that fails by
// longjmp, so the functions that call it hold nothing that has to be destroyed.
struct Decoder {
    const ByteFile &file;
    std::uint64_t at = 0;
    png_structp png = nullptr;
    png_infop info = nullptr;
    char problem[120] = "";

    explicit Decoder(const ByteFile &from) : file(from) {}
    ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
    Decoder(const Decoder &) = delete;
    Decoder &operator=(const Decoder &) = delete;
};

[[noreturn]] void fail(png_structp png, png_const_charp message)
{
    auto *decoder = static_cast<Decoder *>(png_get_error_ptr(png));
    std::strncpy(decoder->problem, message, sizeof decoder->problem - 1);
    png_longjmp(png, 1);
}

// Of chunks that do not change pixels; what does is an error.
void ignore(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep into, size_t count)
{
    auto *decoder = static_cast<Decoder *>(png_get_io_ptr(png));
    bool failed = false;
    try {
        decoder->file.read(decoder->at, into, count);
    } catch (const Refusal &) {
        failed = true; // no exception may pass through libpng
    }
    if (failed) {
        png_error(png, "the file is cut short");
    }
    decoder->at += count;
}

bool start(Decoder &decoder)
{
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, ignore);
    decoder.info = decoder.png == nullptr ? nullptr : png_create_info_struct(decoder.png);
    if (decoder.info == nullptr) {
        return false;
    }
    if (setjmp(png_jmpbuf(decoder.png)) != 0) {
        return false;
    }
    png_set_read_fn(decoder.png, &decoder, read_bytes);
    png_set_user_limits(decoder.png, most_side_px, most_side_px);
    png_set_chunk_malloc_max(decoder.png, most_chunk_bytes);
    png_set_chunk_cache_max(decoder.png, most_chunks);
    png_set_crc_action(decoder.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(decoder.png, decoder.info);
    png_set_packing(decoder.png); // pixels of 1, 2 and 4 bits to a byte each
    if constexpr (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) {
        png_set_swap(decoder.png);
    }
    png_set_interlace_handling(decoder.png);
    png_read_update_info(decoder.png, decoder.info);
    return true;
}

bool read_rows(Decoder &decoder, png_bytepp rows)
{
    if (setjmp(png_jmpbuf(decoder.png)) != 0) {
        return false;
    }
    png_read_image(decoder.png, rows);
    // Chunks after the pixels: they too may state an orientation.
    png_read_end(decoder.png, decoder.info);
    return true;
}

std::string_view text_of(const Decoder &decoder, std::string_view key)
{
    png_textp texts = nullptr;
    int count = 0;
    png_get_text(decoder.png, decoder.info, &texts, &count);
    for (int i = 0; i < count; ++i) {
        if (texts[i].text != nullptr && key == texts[i].key) {
            const std::size_t length
                = texts[i].itxt_length > 0 ? texts[i].itxt_length : texts[i].text_length;
            return {texts[i].text, length};
        }
    }
    return {};
}

// ImageMagick's way to keep EXIF: three lines of its own, then hexadecimal digits.
Bytes raw_profile(std::string_view text)
{
    for (int line = 0; line < 3; ++line) {
        const std::size_t end = text.find('\n');
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    Bytes bytes;
    int high = -1;
    for (const char c : text) {
        const char *const digits = "0123456789abcdef";
        const char *const found = c == '\0' ? nullptr : std::strchr(digits, c | 0x20);
        if (found == nullptr) {
            continue;
        }
        const int digit = static_cast<int>(found - digits);
        if (high < 0) {
            high = digit;
        } else {
            bytes.push_back(static_cast<std::uint8_t>(high << 4 | digit));
            high = -1;
        }
    }
    return bytes;
}

// What the file states, looked for in the order in which the contract's reference looks.
std::uint32_t orientation_of(const Decoder &decoder)
{
    png_uint_32 bytes = 0;
    png_bytep block = nullptr;
    std::optional<std::uint32_t> stated;
    if (png_get_eXIf_1(decoder.png, decoder.info, &bytes, &block) != 0) {
        stated = exif_orientation(block, bytes);
    } else {
        const Bytes profile = raw_profile(text_of(decoder, "Raw profile type exif"));
        stated = exif_orientation(profile.data(), profile.size());
    }
    if (!stated) {
        stated = xmp_orientation(text_of(decoder, "XML:com.adobe.xmp"));
    }
    return stated.value_or(1);
}

class PngSource final : public FrameSource {
public:
    explicit PngSource(std::unique_ptr<ByteFile> file) : file_(std::move(file)) {}

    std::size_t count() const override { return 1; }
    Frame frame(std::size_t) override;

private:
    Bytes rows(Decoder &decoder) const;
    Colour state_colour(const Decoder &decoder, Frame &frame) const;
    bool drop_opaque_alpha(Frame &frame) const;

    std::unique_ptr<ByteFile> file_;
};

Bytes PngSource::rows(Decoder &decoder) const
{
    const std::size_t row_bytes = png_get_rowbytes(decoder.png, decoder.info);
    const std::size_t height = png_get_image_height(decoder.png, decoder.info);
    Bytes pixels(row_bytes * height);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) {
        rows[y] = pixels.data() + y * row_bytes;
    }
    if (!read_rows(decoder, rows.data())) {
        throw file_->refusal(std::string("is no readable PNG: ") + decoder.problem + ".");
    }
    return pixels;
}

// Gray of fewer bits, in 8: white stays white.
void widen_gray(Frame &frame, int stored_bits)
{
    const int factor = 255 / ((1 << stored_bits) - 1);
    for (std::uint8_t &value : frame.pixels) {
        value = static_cast<std::uint8_t>(value * factor);
    }
}

bool PngSource::drop_opaque_alpha(Frame &frame) const
{
    Bytes opaque;
    opaque.reserve(frame.pixels.size() / 4 * 3);
    for (std::size_t at = 0; at < frame.pixels.size(); at += 4) {
        const auto pixel = frame.pixels.begin() + static_cast<std::ptrdiff_t>(at);
        if (pixel[3] != 255) {
            return false;
        }
        opaque.insert(opaque.end(), pixel, pixel + 3);
    }
    frame.pixels = std::move(opaque);
    frame.channels = 3;
    return true;
}

// Returns what the pixels are; refuses what cannot be stated exactly.
Colour PngSource::state_colour(const Decoder &decoder, Frame &frame) const
{
    const png_byte type = png_get_color_type(decoder.png, decoder.info);
    png_colorp palette = nullptr;
    int entries = 0;
    switch (type) {
    case PNG_COLOR_TYPE_GRAY:
        return Colour::gray;
    case PNG_COLOR_TYPE_RGB:
        return Colour::rgb;
    case PNG_COLOR_TYPE_PALETTE:
        png_get_PLTE(decoder.png, decoder.info, &palette, &entries);
        for (int i = 0; i < entries; ++i) {
            frame.palette.insert(
                frame.palette.end(), {palette[i].red, palette[i].green, palette[i].blue});
        }
        return Colour::palette;
    default:
        break;
    }
    if (type != PNG_COLOR_TYPE_RGB_ALPHA || frame.bits != 8 || !drop_opaque_alpha(frame)) {
        throw file_->refusal("has pixels that are not opaque. Convert it to one without alpha.");
    }
    return Colour::rgb;
}

Frame PngSource::frame(std::size_t)
{
    Decoder decoder(*file_);
    if (!start(decoder)) {
        throw file_->refusal(std::string("is no readable PNG: ") + decoder.problem + ".");
    }
    // Of the file: libpng counts packed pixels as 8 bits once they are unpacked.
    const int stored_bits = file_->read(24, 1)[0];
    const png_byte type = png_get_color_type(decoder.png, decoder.info);
    Frame frame;
    frame.bits = png_get_bit_depth(decoder.png, decoder.info);
    frame.height_px = png_get_image_height(decoder.png, decoder.info);
    frame.width_px = png_get_image_width(decoder.png, decoder.info);
    frame.channels = png_get_channels(decoder.png, decoder.info);
    const bool deep_gray = frame.bits == 16 && type == PNG_COLOR_TYPE_GRAY
        && scan_build::colour == Colour::gray;
    if (frame.bits != scan_build::bits || (frame.bits == 16 && !deep_gray)) {
        throw file_->refusal(
            "has pixels of " + std::to_string(frame.bits) + " bits; the contract says "
            + name_of(scan_build::colour) + " of " + std::to_string(scan_build::bits)
            + " bits. Files of 16 bits are read where they are gray.");
    }
    if (frame.bits == 8 && png_get_valid(decoder.png, decoder.info, PNG_INFO_tRNS) != 0) {
        throw file_->refusal("has transparent pixels. Convert it to one without transparency.");
    }
    frame.pixels = rows(decoder);
    frame.orientation = orientation_of(decoder);
    if (type == PNG_COLOR_TYPE_GRAY && stored_bits < 8) {
        widen_gray(frame, stored_bits);
    }
    const Colour stated = state_colour(decoder, frame);
    if (!state_in_contract_colour(frame, stated)) {
        throw file_->refusal(
            std::string("has pixels that are ") + name_of(stated) + ", not "
            + name_of(scan_build::colour) + ".");
    }
    return frame;
}

} // namespace

bool is_png(const ByteFile &file)
{
    return file.size() >= sizeof signature
        && std::memcmp(file.read(0, sizeof signature).data(), signature, sizeof signature) == 0;
}

std::unique_ptr<FrameSource> open_png(std::unique_ptr<ByteFile> file)
{
    return std::make_unique<PngSource>(std::move(file));
}

} // namespace scan
