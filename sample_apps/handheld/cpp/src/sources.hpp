// Where frames come from: files of several kinds behind one small interface.
//
// To read a camera or a vendor's SDK, write another FrameSource, and open it in
// `open_source`; nothing else changes.
#ifndef SCAN_SOURCES_HPP
#define SCAN_SOURCES_HPP

#include "frame.hpp"

#include <memory>
#include <optional>
#include <string>

namespace scan {

class FrameSource {
public:
    virtual ~FrameSource() = default;

    virtual std::size_t count() const = 0;

    // One frame, in the contract's colour; refused, as a bad frame, where it states another.
    virtual Frame frame(std::size_t index) = 0;
};

// What the command line says of raw files.
struct RawShape {
    std::uint32_t height_px;
    std::uint32_t width_px;
    std::uint32_t channels;
};

// Opens a PNG, a DICOM object or a raw file, whichever its content is. With a shape, every
// file is raw.
std::unique_ptr<FrameSource> open_source(
    const std::string &path, const std::optional<RawShape> &raw);

// Each kind of file; the descriptions are with the code.
std::unique_ptr<FrameSource> open_png(std::unique_ptr<ByteFile> file);
std::unique_ptr<FrameSource> open_dicom(std::unique_ptr<ByteFile> file);
std::unique_ptr<FrameSource> open_raw(std::unique_ptr<ByteFile> file, const RawShape &shape);

bool is_png(const ByteFile &file);
bool is_dicom(const ByteFile &file);

} // namespace scan

#endif
