// Why the program stops: one exception for everything that can be wrong with what it is given.
#ifndef SCAN_REFUSAL_HPP
#define SCAN_REFUSAL_HPP

#include <exception>
#include <string>
#include <utility>

namespace scan {

// How the program ends. A caller tells faults apart by these; README.md lists them.
enum class Exit : int {
    success = 0,
    other = 1,
    usage = 2,
    differs = 5,
    bad_bundle = 12,
    bad_frame = 15,
    model_refused = 17,
};

// Says what is wrong, with which file, and, where it is not plain, what to do about it.
class Refusal : public std::exception {
public:
    Refusal(Exit exit, const std::string &where, const std::string &problem)
        : exit_(exit), message_(where.empty() ? problem : where + ": " + problem)
    {
    }

    Exit exit() const noexcept { return exit_; }
    const std::string &message() const noexcept { return message_; }
    const char *what() const noexcept override { return message_.c_str(); }

private:
    Exit exit_;
    std::string message_;
};

} // namespace scan

#endif
