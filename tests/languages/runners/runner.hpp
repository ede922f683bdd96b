// What the runner of C++ and the calls of the contracts' code share.
#ifndef RUNNER_HPP
#define RUNNER_HPP

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

using Bytes = std::vector<std::uint8_t>;

enum class Kind : std::uint32_t { prepare = 0, answer = 1, version = 2 };

struct Case {
    std::array<std::uint32_t, 12> head;
    Bytes payload;
    Bytes palette;

    std::uint32_t contract() const { return head[0]; }
    Kind kind() const { return static_cast<Kind>(head[1]); }
    std::uint32_t height() const { return head[2]; }
    std::uint32_t width() const { return head[3]; }
    std::uint32_t channels() const { return head[4]; }
    std::uint32_t bits() const { return head[5]; }
    std::uint32_t orientation() const { return head[6]; }
    std::int32_t version() const { return static_cast<std::int32_t>(head[10]); }
};

// What the generated code of one contract makes of a case: returns its status.
using Run = std::uint32_t (*)(const Case &now, Bytes &result);

// In contracts.cpp, which the test writes.
extern const std::vector<Run> runs;

template <typename Number> std::vector<Number> numbers(const Bytes &bytes)
{
    std::vector<Number> values(bytes.size() / sizeof(Number));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Number));
    return values;
}

template <typename Number> void put(Bytes &to, const Number *values, std::size_t count)
{
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(values);
    to.insert(to.end(), bytes, bytes + count * sizeof(Number));
}

inline void put_pair(Bytes &to, std::uint32_t value)
{
    const std::array<std::uint32_t, 2> pair = {value, 0};
    put(to, pair.data(), pair.size());
}

#endif
