#include "json_line.hpp"

#include <cmath>
#include <cstdio>

namespace scan {
namespace {

// The length of the UTF-8 sequence that `text` begins with; 0 where it is none.
std::size_t utf8_length(std::string_view text)
{
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto follows = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xc0) == 0x80; };
    if (byte(0) < 0x80) {
        return 1;
    }
    if (byte(0) >= 0xc2 && byte(0) <= 0xdf) {
        return follows(1) ? 2 : 0;
    }
    if (byte(0) >= 0xe0 && byte(0) <= 0xef && follows(1) && follows(2)) {
        const bool longer_than_needed = byte(0) == 0xe0 && byte(1) < 0xa0;
        const bool surrogate = byte(0) == 0xed && byte(1) > 0x9f;
        return longer_than_needed || surrogate ? 0 : 3;
    }
    if (byte(0) >= 0xf0 && byte(0) <= 0xf4 && follows(1) && follows(2) && follows(3)) {
        const bool longer_than_needed = byte(0) == 0xf0 && byte(1) < 0x90;
        const bool beyond = byte(0) == 0xf4 && byte(1) > 0x8f;
        return longer_than_needed || beyond ? 0 : 4;
    }
    return 0;
}

// File names may hold any bytes; JSON may not.
std::string quoted(std::string_view text)
{
    std::string json = "\"";
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const unsigned char first = static_cast<unsigned char>(text[0]);
        if (length == 0) {
            json += "\\ufffd";
        } else if (first < 0x20 || first == 0x7f) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(first));
            json += escaped;
        } else {
            json += first == '"' || first == '\\' ? "\\" : "";
            json += text.substr(0, length);
        }
        text.remove_prefix(length == 0 ? 1 : length);
    }
    return json + "\"";
}

} // namespace

JsonLine &JsonLine::add_raw(std::string_view key, std::string_view json)
{
    text_ += text_.empty() ? "" : ",";
    text_ += quoted(key);
    text_ += ":";
    text_ += json;
    return *this;
}

JsonLine &JsonLine::add_keys(const JsonLine &other)
{
    text_ += text_.empty() || other.text_.empty() ? "" : ",";
    text_ += other.text_;
    return *this;
}

JsonLine &JsonLine::add(std::string_view key, std::string_view text)
{
    return add_raw(key, quoted(text));
}

JsonLine &JsonLine::add(std::string_view key, std::uint64_t value)
{
    return add_raw(key, std::to_string(value));
}

JsonLine &JsonLine::add(std::string_view key, double value)
{
    if (!std::isfinite(value)) {
        return add_null(key); // JSON has no NaN and no infinity
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value); // 17 digits read back as the same double
    return add_raw(key, text);
}

JsonLine &JsonLine::add(std::string_view key, const std::vector<std::uint64_t> &values)
{
    std::vector<std::string> json;
    for (const std::uint64_t value : values) {
        json.push_back(std::to_string(value));
    }
    return add_raw(key, json_array(json));
}

void JsonLine::print() const
{
    if (std::printf("%s\n", object().c_str()) < 0 || std::fflush(stdout) != 0) {
        throw Refusal(Exit::other, "", "standard output cannot be written.");
    }
}

std::string json_array(const std::vector<std::string> &json)
{
    std::string text = "[";
    for (const std::string &value : json) {
        text += text.size() > 1 ? "," : "";
        text += value;
    }
    return text + "]";
}

std::string base64(const Bytes &bytes)
{
    static const char *const digits
        = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::size_t left = bytes.size() - at;
        const std::uint32_t second = left > 1 ? bytes[at + 1] : 0;
        const std::uint32_t third = left > 2 ? bytes[at + 2] : 0;
        const std::uint32_t group = std::uint32_t{bytes[at]} << 16 | second << 8 | third;
        text += digits[group >> 18];
        text += digits[group >> 12 & 63];
        text += left > 1 ? digits[group >> 6 & 63] : '=';
        text += left > 2 ? digits[group & 63] : '=';
    }
    return text;
}

} // namespace scan
