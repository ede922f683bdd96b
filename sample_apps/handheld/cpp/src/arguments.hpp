// What the command line asks for.
#ifndef SCAN_ARGUMENTS_HPP
#define SCAN_ARGUMENTS_HPP

#include "sources.hpp"

#include <optional>
#include <string>
#include <vector>

namespace scan {

enum class Task { frames, selftest, bench };

struct Arguments {
    Task task = Task::frames;
    std::string bundle;
    std::vector<std::string> files;
    std::optional<RawShape> raw;
    unsigned repeats = 0; // of a bench
    unsigned threads = 1;
    bool marks = false;
    bool operators = false;
};

// Refuses, as Exit::usage, what cannot be meant.
Arguments read_arguments(int count, const char *const *values);

// How the program is called, for people.
extern const char *const usage;

} // namespace scan

#endif
