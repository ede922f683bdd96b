#include "golden.hpp"

#include <cstdio>

namespace scan {
namespace {

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t most_header_bytes = 1 << 20;
constexpr std::size_t most_samples = 1000; // what three digits can name

Refusal refusal(const std::string &problem)
{
    return Refusal(Exit::bad_bundle, "golden.safetensors", problem);
}

std::size_t value_bytes(const std::string &type)
{
    static const std::map<std::string, std::size_t> sizes = {
        {"U8", 1}, {"I8", 1}, {"U16", 2}, {"I16", 2}, {"I32", 4}, {"F32", 4}, {"I64", 8}, {"F64", 8},
    };
    const auto found = sizes.find(type);
    if (found == sizes.end()) {
        throw refusal("holds an array of an unknown type.");
    }
    return found->second;
}

// Returns the values of an array; refuses sides whose product does not fit.
std::uint64_t values_of(const std::vector<std::uint64_t> &shape)
{
    std::uint64_t values = 1;
    for (const std::uint64_t side : shape) {
        if (side == 0 || values > UINT32_MAX / side) {
            throw refusal("holds an array of an impossible shape.");
        }
        values *= side;
    }
    return values;
}

std::string numbered(const char *name, std::size_t index)
{
    char text[32];
    std::snprintf(text, sizeof text, "%s_%03zu", name, index);
    return text;
}

} // namespace

GoldenFile::GoldenFile(Bytes content) : content_(std::move(content))
{
    if (content_.size() < length_bytes) {
        throw refusal("is cut short.");
    }
    const std::uint64_t header_bytes = little_u64(content_.data());
    if (header_bytes > most_header_bytes || header_bytes > content_.size() - length_bytes) {
        throw refusal("has a header that does not fit.");
    }
    const std::size_t first = length_bytes + static_cast<std::size_t>(header_bytes);
    arrays_ = read_array_header(
        content_.data() + length_bytes, static_cast<std::size_t>(header_bytes));
    for (auto &[name, array] : arrays_) {
        const std::uint64_t size = values_of(array.shape) * value_bytes(array.type);
        if (array.begin > array.end || array.end > content_.size() - first
            || array.end - array.begin != size) {
            throw refusal("holds an array that is not where it says.");
        }
        array.begin += first;
        array.end += first;
    }
    count_ = static_cast<std::size_t>(values_of(array("samples").shape));
    if (count_ > most_samples) {
        throw refusal("holds more samples than can be named.");
    }
}

const StoredArray &GoldenFile::array(const std::string &name) const
{
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) {
        throw refusal("has no array " + name + ".");
    }
    return found->second;
}

std::int64_t GoldenFile::whole_number(const std::string &name, std::size_t index) const
{
    const StoredArray &numbers = array(name);
    if (numbers.type != "I64" || numbers.end - numbers.begin != 8 * count_) {
        throw refusal("has not one whole number a sample in " + name + ".");
    }
    return static_cast<std::int64_t>(little_u64(content_.data() + numbers.begin + 8 * index));
}

Bytes GoldenFile::row(const std::string &name, std::size_t index) const
{
    const StoredArray &rows = array(name);
    if (rows.shape.empty() || rows.shape[0] != count_) {
        throw refusal("has not one row a sample in " + name + ".");
    }
    const std::uint64_t bytes = (rows.end - rows.begin) / count_;
    return bytes_from(rows.begin + bytes * index, bytes);
}

Bytes GoldenFile::all_of(const StoredArray &array) const
{
    return bytes_from(array.begin, array.end - array.begin);
}

Bytes GoldenFile::outputs() const
{
    return all_of(array("outputs"));
}

Bytes GoldenFile::bytes_from(std::uint64_t at, std::uint64_t count) const
{
    const auto first = content_.begin() + static_cast<std::ptrdiff_t>(at);
    return Bytes(first, first + static_cast<std::ptrdiff_t>(count));
}

GoldenSample GoldenFile::sample(std::size_t index) const
{
    const StoredArray &stored = array(numbered("frame", index));
    if (stored.shape.empty() || stored.shape.size() > 3) {
        throw refusal("holds a frame that is none.");
    }
    // A signal of one lead may come without the axis of leads.
    std::vector<std::uint64_t> shape = stored.shape;
    if (shape.size() == 1) {
        shape.insert(shape.begin(), 1);
    }
    GoldenSample sample;
    sample.frame.pixels = all_of(stored);
    sample.frame.height_px = static_cast<std::uint32_t>(shape[0]);
    sample.frame.width_px = static_cast<std::uint32_t>(shape[1]);
    sample.frame.channels = shape.size() == 3 ? static_cast<std::uint32_t>(shape[2]) : 1;
    sample.frame.bits = static_cast<std::uint32_t>(8 * value_bytes(stored.type));
    if (arrays_.count("orientations") > 0) {
        sample.frame.orientation = static_cast<std::uint32_t>(whole_number("orientations", index));
    }
    if (arrays_.count(numbered("palette", index)) > 0) {
        sample.frame.palette = all_of(array(numbered("palette", index)));
    }
    sample.input = row("inputs", index);
    sample.output = row("outputs", index);
    sample.decision = static_cast<std::uint32_t>(whole_number("decisions", index));
    return sample;
}

} // namespace scan
