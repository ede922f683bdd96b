#include "sources.hpp"

#include "scan_contract.hpp"

namespace scan {
namespace {

// Frames without a header, one after the other, with the contract's bits a value.
class RawSource final : public FrameSource {
public:
    RawSource(std::unique_ptr<ByteFile> file, const RawShape &shape)
        : file_(std::move(file)), shape_(shape)
    {
        const std::uint64_t pixels = std::uint64_t{shape.height_px} * shape.width_px;
        frame_bytes_ = pixels * shape.channels * (scan_build::bits / 8);
        if (file_->size() == 0 || file_->size() % frame_bytes_ != 0) {
            throw file_->refusal(
                "holds " + std::to_string(file_->size()) + " bytes, which are no frames of "
                + std::to_string(frame_bytes_) + " bytes.");
        }
    }

    std::size_t count() const override
    {
        return static_cast<std::size_t>(file_->size() / frame_bytes_);
    }

    Frame frame(std::size_t index) override
    {
        Frame frame;
        frame.pixels = file_->read(index * frame_bytes_, static_cast<std::size_t>(frame_bytes_));
        frame.height_px = shape_.height_px;
        frame.width_px = shape_.width_px;
        frame.channels = shape_.channels;
        frame.bits = scan_build::bits;
        return frame;
    }

private:
    std::unique_ptr<ByteFile> file_;
    RawShape shape_;
    std::uint64_t frame_bytes_;
};

} // namespace

std::unique_ptr<FrameSource> open_raw(std::unique_ptr<ByteFile> file, const RawShape &shape)
{
    return std::make_unique<RawSource>(std::move(file), shape);
}

std::unique_ptr<FrameSource> open_source(
    const std::string &path, const std::optional<RawShape> &raw)
{
    auto file = std::make_unique<ByteFile>(path, Exit::bad_frame);
    if (raw) {
        return open_raw(std::move(file), *raw);
    }
    if (!scan_build::reads_signals && is_png(*file)) {
        return open_png(std::move(file));
    }
    if (!scan_build::reads_signals && is_dicom(*file)) {
        return open_dicom(std::move(file));
    }
    if (scan_build::height_px == 0) {
        throw file->refusal(
            "is neither PNG nor DICOM. Give the size of raw frames: --raw HEIGHTxWIDTHxCHANNELS.");
    }
    const RawShape shape = {scan_build::height_px, scan_build::width_px, scan_build::channels};
    return open_raw(std::move(file), shape);
}

} // namespace scan
