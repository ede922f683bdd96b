// Runs a file of cases (tests/languages/protocol.py) through generated C++: program CASES RESULTS.
#include "runner.hpp"

#include <fstream>

namespace {

constexpr std::uint32_t end = 0xffffffff;

std::size_t gap(std::size_t bytes)
{
    return (8 - bytes % 8) % 8;
}

std::vector<std::uint8_t> read_block(std::istream &from, std::uint32_t bytes)
{
    std::vector<std::uint8_t> block(bytes);
    from.read(reinterpret_cast<char *>(block.data()), static_cast<std::streamsize>(bytes));
    from.ignore(static_cast<std::streamsize>(gap(bytes)));
    return block;
}

void write_result(std::ostream &to, std::uint32_t status, const Bytes &payload)
{
    const std::array<std::uint32_t, 2> head = {status, static_cast<std::uint32_t>(payload.size())};
    to.write(reinterpret_cast<const char *>(head.data()), sizeof head);
    to.write(reinterpret_cast<const char *>(payload.data()), static_cast<std::streamsize>(payload.size()));
    to.write("\0\0\0\0\0\0\0", static_cast<std::streamsize>(gap(payload.size())));
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    std::ifstream cases(argv[1], std::ios::binary);
    std::ofstream results(argv[2], std::ios::binary);
    Case now;
    while (cases.read(reinterpret_cast<char *>(now.head.data()), sizeof now.head)) {
        if (now.contract() == end) {
            return 0;
        }
        now.payload = read_block(cases, now.head[8]);
        now.palette = read_block(cases, now.head[9]);
        Bytes payload;
        const std::uint32_t status = runs[now.contract()](now, payload);
        write_result(results, status, payload);
    }
    return 1;
}
